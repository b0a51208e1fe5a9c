"""Priors, what they are stated on, and the names by which they are asked for."""

from splisosm_pyro.maths.priors.all_parameters import Priors
from splisosm_pyro.maths.priors.base import ScalePrior, Variable
from splisosm_pyro.maths.priors.by_name import (
    PRIORS,
    Prior,
    as_coefficient_prior,
    as_theta_prior,
    prior_from_name,
)
from splisosm_pyro.maths.priors.coefficients import (
    CoefficientPrior,
    CoefficientPriors,
    FlatPrior,
    NormalPrior,
    StudentTPrior,
)
from splisosm_pyro.maths.priors.sigma import (
    ExponentialPrior,
    GammaPrior,
    HalfNormalPrior,
    HalfTPrior,
    InvGammaPrior,
    LogNormalPrior,
    NoPrior,
    PCPrior,
)
from splisosm_pyro.maths.priors.theta import (
    BetaPrior,
    LogitNormalPrior,
    PCTheta,
    ThetaPrior,
    UniformTheta,
)
from splisosm_pyro.maths.priors.usage_range import PCUsagePrior
from splisosm_pyro.maths.priors.wrapped import PoweredPrior, PyroPrior, RestatedPrior, stated_on

__all__ = [
    "PRIORS",
    "BetaPrior",
    "CoefficientPrior",
    "CoefficientPriors",
    "ExponentialPrior",
    "FlatPrior",
    "GammaPrior",
    "HalfNormalPrior",
    "HalfTPrior",
    "InvGammaPrior",
    "LogNormalPrior",
    "LogitNormalPrior",
    "NoPrior",
    "NormalPrior",
    "PCPrior",
    "PCTheta",
    "PCUsagePrior",
    "PoweredPrior",
    "Prior",
    "Priors",
    "PyroPrior",
    "RestatedPrior",
    "ScalePrior",
    "StudentTPrior",
    "ThetaPrior",
    "UniformTheta",
    "Variable",
    "as_coefficient_prior",
    "as_theta_prior",
    "prior_from_name",
    "stated_on",
]
