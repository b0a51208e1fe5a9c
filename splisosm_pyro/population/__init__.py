"""What genes have in common: the distribution over genes of sigma and theta, and a gene under it.

A gene's likelihood of ``(log sigma, theta_logit)``, its coefficients integrated out, is known at a
few places (``surface.py``) and read off between them on one grid (``grid.py``). The distribution of
these two over genes is estimated from all genes' likelihoods (``gaussian.py``, ``mixture.py``,
chosen in ``prior.py``), and a gene's posterior under it is a sum over the grid (``moderated.py``).
Effects of a covariate have a distribution of their own (``effects.py``).

Reference: Efron (2014), Two modeling strategies for empirical Bayes estimation,
doi:10.1214/13-STS455; Stephens (2017), False discovery rates: a new deal,
doi:10.1093/biostatistics/kxw041.
"""
