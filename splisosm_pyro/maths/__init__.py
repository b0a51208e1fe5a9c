"""Floor 1: likelihood, covariances, priors, densities. No model, no fitting."""
