"""Posteriors: draws of all parameters and of the field, as ArviZ takes them, with their checks."""

from splisosm_pyro.posterior.arviz.container import read_posterior
from splisosm_pyro.posterior.arviz.diagnose import diagnose
from splisosm_pyro.posterior.density.priors import PosteriorPriors
from splisosm_pyro.posterior.loo.table import Loo

__all__ = ["Loo", "PosteriorPriors", "diagnose", "read_posterior"]
