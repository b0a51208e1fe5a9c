"""Studies of a model: what it predicts, and whether its posteriors are calibrated."""

from splisosm_pyro.studies.compare import compare_loo
from splisosm_pyro.studies.heldout import heldout_log_lik
from splisosm_pyro.studies.scores import Scores

__all__ = ["Scores", "compare_loo", "heldout_log_lik"]
