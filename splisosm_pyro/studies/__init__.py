"""Studies of a model: what it predicts, whether it is calibrated, what its priors do to it."""

from splisosm_pyro.studies.calibration import calibrate
from splisosm_pyro.studies.calibration_result import Calibration
from splisosm_pyro.studies.compare import compare_loo
from splisosm_pyro.studies.heldout import heldout_log_lik
from splisosm_pyro.studies.predictive_check import PredictiveCheck, predictive_check
from splisosm_pyro.studies.prior_sensitivity import prior_sensitivity
from splisosm_pyro.studies.prior_sensitivity_study import PriorSensitivity
from splisosm_pyro.studies.prior_usage import PriorUsage, prior_predictive
from splisosm_pyro.studies.scores import Scores

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
