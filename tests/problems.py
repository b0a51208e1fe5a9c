"""What the engine's tests share: latent problems, kernels in every form, differences."""

from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial

import cases
import numpy as np
import oracles
import pytest
from scipy import stats

from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.outer_space import OuterSpace
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.marginal.conditional_mode import cold_start, find_mode
from splisosm_pyro.fit.marginal.latent_problem import GeneData, LatentProblem
from splisosm_pyro.fit.marginal.variances import Variances
from splisosm_pyro.fit.options import GLMMOptions
from splisosm_pyro.maths.covariance.as_kernel import DenseKernel, LowRankKernel, as_kernel
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.priors import GammaPrior, InvGammaPrior, Priors
from splisosm_pyro.maths.spot.integrated import QuadratureNugget
from splisosm_pyro.maths.spot.laplace import LaplaceNugget
from splisosm_pyro.posterior.density.outer import OuterDensity
from splisosm_pyro.posterior.density.priors import PosteriorPriors


def _eigenpairs(case):
    values, vectors = np.linalg.eigh(case.V)
    return values[::-1].copy(), vectors[:, ::-1].copy()


def _car(case, form):
    kernel = CARKernel.from_coords(case.coords, k=3, rho=0.9)
    kernel.system = partial(kernel.system, form=form)
    return kernel


def _truncated(case):
    values, vectors = _eigenpairs(case)
    rank = max(1, len(values) // 2)
    return LowRankKernel(values[:rank], vectors[:, :rank])


FORMS = {
    "dense": lambda case: DenseKernel(case.V),
    "full_rank": lambda case: as_kernel(None, *_eigenpairs(case), len(case.V)),
    "low_rank": _truncated,
    "car_sparse": partial(_car, form="sparse"),
    "car_dense": partial(_car, form="dense"),
}


IN_EVERY_FORM = ("empty_spots", "one_spot", "covariates", "batch")


@cache
def kernel_of(name, form):
    """The kernel of a case in some form."""
    return FORMS[form](cases.CASES[name])


@cache
def truth_of(name, form="dense", gene=0):
    """The dense Laplace approximation at the case's own parameters."""
    case = cases.CASES[name]
    V = kernel_of(name, form).dense().numpy()
    here = (case.B(gene), case.sigma[gene], case.theta[gene])
    return oracles.log_marginal(case.counts[gene], case.design, *here, V)


def pairs_of_case_and_form():
    """Every case with the dense form and another in turn, four cases with every form they have."""
    dense, *others = FORMS
    return [
        (name, form)
        for i, (name, case) in enumerate(cases.CASES.items())
        for form in (FORMS if name in IN_EVERY_FORM else (dense, others[i % len(others)]))
        if not (len(case.V) == 1 and form == "low_rank")
    ]


def problem_of(case, kernel, gene=0):
    """The latent problem of a case's gene."""
    data = GeneData.from_arrays(case.counts[gene], case.design)
    return LatentProblem(data, kernel, LaplaceNugget(data.counts))


def integrated(case, kernel, gene=0):
    """The latent problem of a case's gene with the nugget integrated out."""
    problem = problem_of(case, kernel, gene)
    return replace(problem, spots=QuadratureNugget(problem.gene.counts))


@contextmanager
def factorisations():
    """A list that grows by one for every factorisation of a latent problem."""
    made, plain = [], LatentProblem.factorise
    with pytest.MonkeyPatch.context() as patch:

        def counting(problem, precision):
            made.append(1)
            return plain(problem, precision)

        patch.setattr(LatentProblem, "factorise", counting)
        yield made


def variances_of(case, kernel, gene=0):
    """The variances of a case's gene."""
    return Variances(case.sigma[gene], case.theta[gene], case.shape[2] - 1, kernel.residual)


def mode_of(problem, B, variances):
    """The conditional mode, from nothing."""
    start = cold_start(problem, B, variances.spatial, variances.nugget)
    return find_mode(problem, start, variances.spatial, variances.nugget)


def objective_of(
    case, kernel, gene=0, *, fix_sigma=False, prior=None, free=None, problem=problem_of
):
    """The marginal objective of a case's gene and its search vector at the case's parameters."""
    B, sigma, theta = case.B(gene), case.sigma[gene], case.theta[gene]
    space = OuterSpace(
        n_components=sigma.size,
        fixed_sigma=sigma if fix_sigma else None,
        free=np.ones(B.shape, dtype=bool) if free is None else free,
        coefficients=B,
        priors=Priors(prior or "none"),
        back=np.eye(len(B)),
        residual=kernel.residual,
    )
    with np.errstate(divide="ignore"):
        theta_logit = np.clip(np.log(theta) - np.log1p(-theta), -4.0, 4.0)
    u = space.start(B, sigma, theta_logit)
    return MarginalObjective(problem(case, kernel, gene), space), u


def central(function, u, i, step=1e-3):
    """Derivative in the i-th unknown by differences of fourth order."""
    sides = []
    for k in (-2, -1, 1, 2):
        moved = u.copy()
        moved[i] += k * step
        sides.append(np.asarray(function(moved), dtype=float))
    return (sides[0] - 8 * sides[1] + 8 * sides[2] - sides[3]) / (12 * step)


OUTER_PRIORS = {
    "gamma": PosteriorPriors(2.0, 3.0, GammaPrior()),
    "inv_gamma": PosteriorPriors(2.0, 3.0, InvGammaPrior()),
}


def density_of(case, form="dense", prior="gamma", *, how=("laplace",) * 2, fix=False, gene=0):
    """The outer density of a case's gene."""
    options = GLMMOptions.from_configs("joint_gd", None)
    shared = case.sigma.shape[1] == 1
    design = StandardDesign.of(case.design)
    spec = GLMMSpec(kernel_of(case.name, form), design, shared, fix, Priors(), options)
    spec = spec.with_nugget(*how)
    return OuterDensity.of_gene(spec, case.counts[gene], OUTER_PRIORS[prior], case.sigma[gene])


def point_of(case, gene=0):
    """A case's own parameters, unconstrained; coefficients are those of the standard columns."""
    theta = np.clip(case.theta[gene], 0.05, 0.95)
    B = StandardDesign.of(case.design).standard(case.beta[gene], case.bias_eta[gene])
    return np.concatenate([np.log(case.sigma[gene]), np.log(theta / (1 - theta)), B.ravel()])


def skewed(u):
    """A log gamma and a logistic variable that leans on it."""
    apart = u[1] - 0.5 * u[0]
    lean = -np.tanh(apart / 2.0)  # of the logistic's log density
    slope = np.array([2.0 - np.exp(u[0]) - 0.5 * lean, lean])
    return 2.0 * u[0] - np.exp(u[0]) + stats.logistic.logpdf(apart), slope, None
