"""What a model predicts: predictive checks, and what its priors mean for usage."""

from splisosm_pyro.studies.prediction.statistics import moran_i, overdispersion, share_empty

__all__ = ["moran_i", "overdispersion", "share_empty"]
