"""Studies of a model: what it predicts, whether it is calibrated, what its priors do to it."""

from splisosm_pyro.studies.calibration.calibrate import calibrate
from splisosm_pyro.studies.calibration.result import Calibration
from splisosm_pyro.studies.comparison.heldout import heldout_log_lik
from splisosm_pyro.studies.comparison.loo import compare_loo
from splisosm_pyro.studies.comparison.scores import Scores
from splisosm_pyro.studies.prediction.check import PredictiveCheck, predictive_check
from splisosm_pyro.studies.prediction.prior_usage import PriorUsage, prior_predictive
from splisosm_pyro.studies.sensitivity.fitted import PriorSensitivity
from splisosm_pyro.studies.sensitivity.study import prior_sensitivity

__all__ = [
    "Calibration",
    "PredictiveCheck",
    "PriorSensitivity",
    "PriorUsage",
    "Scores",
    "calibrate",
    "compare_loo",
    "heldout_log_lik",
    "predictive_check",
    "prior_predictive",
    "prior_sensitivity",
]
