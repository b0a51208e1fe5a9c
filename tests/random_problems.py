"""Random small problems of every kind, and the laws that a fit of any of them must obey.

Nothing ends failed, nothing ends below a point that anyone can name (the GLM with a small sigma,
theta at 0 or at .9, coefficients at 0), and nothing is called settled that has somewhere to go.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csc_array, eye_array
from scipy.spatial.distance import cdist

from splisosm_pyro import MultinomGLMM
from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.search.quasi_newton import differenced_hessian
from splisosm_pyro.maths.covariance.as_kernel import DenseKernel, LowRankKernel, PrecisionKernel
from splisosm_pyro.utils import get_cov_sp

METHODS = ("marginal_newton", "marginal_newton", "marginal_gd", "joint_newton", "joint_gd")
KERNELS = ("identity", "no dependence", "car", "car matrix", "low rank", "rough", "dense", "sparse")
PRIORS = ("none", "none", "gamma", "inv_gamma", "half_normal", "half_t", "exponential", "pc_usage")
SHAPES = ("usual", "usual", "sparse", "one isoform", "all but one spot", "one spot", "fractional")
# Nats that a fit may be below a point that is tried, or may still promise.
LACKING, PROMISED = 1e-6, 1e-5


@dataclass(frozen=True, eq=False)
class RandomProblem:
    """Counts (S, P), kernel, covariates (S, F) and the arguments of the model."""

    seed: int
    kind: tuple[str, ...]
    counts: Any
    kernel: Any
    design: Any
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = ", ".join(self.kind)
        return f"problem {self.seed} ({words}; {self.counts.shape}; {self.arguments})"

    def model(self) -> MultinomGLMM:
        """The model with its data, not fitted."""
        model = MultinomGLMM(**self.arguments)
        model.setup_data(self.counts, self.kernel, self.design)
        return model


def random_problem(seed: int) -> RandomProblem:
    """Draw a problem."""
    rng = np.random.default_rng([seed, 18])
    n_spots = int(np.ceil(np.exp(rng.uniform(0.0, np.log(40.0)))))
    n_isos = int(rng.choice([2, 3, 4, 5, 6], p=[0.35, 0.35, 0.15, 0.1, 0.05]))
    coords = rng.uniform(size=(n_spots, 2))
    kernel, shape = str(rng.choice(KERNELS)), str(rng.choice(SHAPES))
    design = _design(rng, coords)
    counts = _counts(rng, coords, n_isos, shape)
    arguments = _arguments(rng, n_isos, n_spots)
    return RandomProblem(
        seed, (kernel, shape), counts, _kernel(rng, kernel, coords), design, arguments
    )


def _design(rng, coords):
    """No, one or two covariates: a number or an indicator."""
    n_spots = len(coords)
    n_covariates = int(rng.choice([0, 0, 1, 2])) if n_spots > 4 else 0
    design = rng.normal(size=(n_spots, n_covariates))
    if n_covariates and rng.random() < 0.5:
        design[:, 0] = coords[:, 0] > np.median(coords[:, 0])
    return design if n_covariates else None


def _counts(rng, coords, n_isos, shape):
    """Counts of a smooth random usage, spoiled as ``shape`` says."""
    n_spots = len(coords)
    smooth = np.exp(-(cdist(coords, rng.uniform(size=(3, 2))) ** 2) / 0.1)
    logits = 1.5 * smooth @ rng.normal(size=(3, n_isos)) + rng.normal(size=n_isos)
    logits += rng.choice([0.0, 0.5, 2.0]) * rng.normal(size=(n_spots, n_isos))
    usage = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    depth = np.exp(rng.uniform(np.log(0.3), np.log(50.0)))
    totals = rng.poisson(0.3 if shape == "sparse" else depth, n_spots)
    if not totals.any():
        totals[rng.integers(n_spots)] = 1
    if shape == "one spot":
        totals *= np.arange(n_spots) == totals.argmax()
    counts = rng.multinomial(totals, usage).astype(np.float64)
    if shape in ("one isoform", "all but one spot"):
        only = np.zeros_like(counts)
        only[:, rng.integers(n_isos)] = totals
        if shape == "all but one spot":
            spot = totals.argmax()
            only[spot] = counts[spot]
        counts = only
    return counts * rng.choice([0.5, 0.1, 1 / 3]) if shape == "fractional" else counts


def _kernel(rng, name, coords):
    """A spatial covariance of a kind."""
    n_spots = len(coords)
    if name == "identity":
        return np.eye(n_spots)
    if name == "sparse":
        return _own_precision(rng, coords)
    if name in ("no dependence", "car", "car matrix") and n_spots > 2:
        k = min(int(rng.choice([2, 4, 6])), n_spots - 1)
        rho = 0.0 if name == "no dependence" else float(rng.choice([0.5, 0.9, 0.99]))
        return get_cov_sp(coords, k=k, rho=rho)
    width = float(rng.choice([0.05, 0.3, 2.0] if name == "dense" else [0.3]))
    cov = np.exp(-cdist(coords, coords) / width)
    if name in ("low rank", "rough") and n_spots > 2:
        rank = int(rng.integers(1, n_spots)) if name == "rough" else max(1, n_spots // 4)
        values, vectors = np.linalg.eigh(cov)
        return LowRankKernel(values[-rank:], vectors[:, -rank:])
    return DenseKernel(cov)


def _own_precision(rng, coords):
    """A user's sparse precision, scaled so that its inverse has unit diagonal."""
    near = cdist(coords, coords) < rng.choice([0.2, 0.4])
    laplacian = csc_array(np.diag(near.sum(axis=1)) - near.astype(float))
    precision = laplacian + rng.choice([0.1, 1.0]) * eye_array(len(coords), format="csc")
    root = np.sqrt(np.linalg.inv(precision.toarray()).diagonal())
    return PrecisionKernel(csc_array(precision.toarray() * np.outer(root, root)))


def _arguments(rng, n_isos, n_spots):
    """The arguments of the model."""
    method = str(rng.choice(METHODS))
    configs = {}
    if method.startswith("marginal"):
        how = rng.choice(["laplace", "quadrature", "ep"])
        if how == "ep" and (n_isos <= 3 or n_spots <= 4):
            configs["smooth"] = "ep"
        elif how != "laplace":
            configs["nugget"] = "quadrature"
    if method == "marginal_newton" and rng.random() < 0.1:
        configs["update_nu_every_k"] = 3
    if method.endswith("gd") and rng.random() < 0.15:
        configs |= {"optim": str(rng.choice(["adam", "sgd"])), "max_epochs": 300}
    return {
        "share_variance": bool(rng.random() < 0.7),
        "var_fix_sigma": bool(rng.random() < 0.25),
        "var_prior_model": str(rng.choice(PRIORS)),
        "fitting_method": method,
        "fitting_configs": configs,
        "init_ratio": str(rng.choice(["uniform", "observed"])),
    }


def findings(problem: RandomProblem) -> list[str]:
    """Fit a problem and say which laws its fit breaks."""
    model = problem.model()
    model.fit(quiet=True)
    status, found = model.status[0], []
    if status.startswith("failed"):
        return [status]
    arrays = model.as_arrays()
    fit, params = arrays.fits[0], arrays.params_of(0)
    if status == "no counts":
        return []
    if status == "max_epochs":
        return [] if "optim" in problem.arguments["fitting_configs"] else ["max_epochs"]
    spec, counts = arrays.spec, arrays.counts[0]
    glm = fit_glm(counts, spec.design.rows)
    moving = spec.moving(glm)
    for name, value in trivial_points(spec, counts, params, glm, moving).items():
        if value > fit.value + LACKING + 1e-12 * abs(value):
            found.append(f"{value - fit.value:.3g} nats below {name} ({status}: {fit.reason})")
    promised = gain_left(spec.evaluation_at(counts, params, moving))
    if promised > PROMISED:
        found.append(f"{status} with {promised:.3g} nats to be gained")
    return found


def trivial_points(spec, counts, params, glm, moving):
    """The objective at points that anyone can name, by what they are."""
    small = params["sigma"] if spec.fix_sigma else np.full_like(params["sigma"], 1e-4)
    own = spec.design.back @ glm.B
    flat = {"beta": own[:-1], "bias_eta": own[-1]}
    zero = {name: np.zeros_like(value) for name, value in flat.items()}
    ones, nu = np.ones_like(params["theta_logit"]), params["nu"]
    places = {
        "the GLM": (flat, small, -15.0),
        "the GLM with theta .9": (flat, small, np.log(9.0)),
        "the GLM with sigma 1, theta .5": (flat, params["sigma"] if spec.fix_sigma else ones, 0.0),
        "coefficients of 0": (zero, small, -15.0),
    }
    values = {}
    for name, (own, sigma, logit) in places.items():
        at = {**own, "sigma": sigma, "theta_logit": logit * ones, "nu": nu}
        values[name] = spec.evaluation_at(counts, at, moving).at.value
    return values


def gain_left(here):
    """What a Newton step inside the bounds promises, in nats, where the objective is concave."""
    hessian, at_bound = differenced_hessian(here.objective, here.at, here.at_bound)
    inside = ~at_bound
    if not inside.any():
        return 0.0
    slope, own = here.at.gradient[inside], hessian[np.ix_(inside, inside)]
    values, vectors = np.linalg.eigh(own)
    along = vectors.T @ slope
    curved = values > 1e-6 * max(1.0, values.max())
    return float(0.5 * (along[curved] ** 2 / values[curved]).sum())
