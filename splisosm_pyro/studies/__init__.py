"""Studies of a model: what it predicts, and whether its posteriors are calibrated."""

from splisosm_pyro.studies.calibration import calibrate
from splisosm_pyro.studies.calibration_result import Calibration
from splisosm_pyro.studies.compare import compare_loo
from splisosm_pyro.studies.heldout import heldout_log_lik
from splisosm_pyro.studies.scores import Scores

__all__ = ["Calibration", "Scores", "calibrate", "compare_loo", "heldout_log_lik"]
