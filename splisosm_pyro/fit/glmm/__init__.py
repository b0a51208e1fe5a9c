"""The GLMM of one gene: search space, objectives, maxima, fit, standard errors."""
