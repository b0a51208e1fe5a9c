"""Posteriors: draws of all parameters and of the field, as ArviZ takes them, with their checks."""

from splisosm_pyro.posterior.container import read_posterior
from splisosm_pyro.posterior.diagnose import diagnose
from splisosm_pyro.posterior.priors import PosteriorPriors

__all__ = ["PosteriorPriors", "diagnose", "read_posterior"]
