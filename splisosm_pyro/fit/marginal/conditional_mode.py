"""The conditional mode of the latent field, for one gene at given variances.

State ``(w, alpha)`` on the occupied spots with ``K w = alpha`` (``K = V^-1``, alpha zero at empty
spots), so that ``w' K w = sum_s w_s' alpha_s`` for every form of the covariance. With the nugget
eliminated spot by spot (``maths/spot/terms.py``), the mode maximises the concave

    psi(w, B) = sum_s h_s(X_s B + D^1/2 w_s) - 1/2 w' K w

over ``w`` (and over the coefficients ``B`` in the joint problem). At the mode
``alpha = D^1/2 h'``. Newton's matrix is ``H = K x I_Q + blockdiag(G_s)``, ``G = D^1/2 A D^1/2``;
from one mode to the next the old mode's factor serves as a preconditioner (chord steps cost a
solve, not a factorisation) until it stops contracting.
"""

from dataclasses import dataclass, replace

import numpy as np

from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.maths.covariance.kernel import Factor
from splisosm_pyro.maths.numeric.arrays import FloatArray, Mask
from splisosm_pyro.maths.spot.terms import SpotTerms

# Squared Newton decrement of a mode: the value is then right to its square root, 1e-10 nats.
MODE_DECREMENT = 1e-20
# A chord step that leaves more of the squared decrement than this calls for a new factor.
CONTRACTION = 1e-4
MAX_STEPS = 200
MAX_HALVINGS = 40
# psi is only known to this relative precision. Where the decrement is below LOCAL, relatively,
# whole steps are taken without asking psi, until they stop contracting.
ROUNDING = 1e-13
LOCAL = 1e-7


class ModeError(ArithmeticError):
    """The mode of the field could not be found."""


@dataclass(frozen=True)
class Border:
    """What coefficients that move with the field add to the Newton system, K of them."""

    cross: FloatArray  # (n, Q, K) D^1/2 A X
    solved: FloatArray  # (n, Q, K) H^-1 cross
    schur: FloatArray  # (K, K) X'AX - cross' H^-1 cross


@dataclass(frozen=True)
class Linearisation:
    """``H`` factorised at one point, and what a Newton step from near that point needs."""

    factor: Factor
    root: FloatArray  # (Q,) D^1/2
    neg_hessian: FloatArray  # (n, Q, Q) A
    precision: FloatArray  # (n, Q, Q) G
    border: "Border | None" = None

    def step(
        self, rest_w: FloatArray, rest_b: FloatArray | None
    ) -> tuple[FloatArray, FloatArray, FloatArray | None]:
        """Return the Newton step in ``(w, alpha, B)`` for the given residuals."""
        d_w = self.factor.solve(rest_w)
        if rest_b is None or self.border is None:
            return d_w, rest_w - _blocks_times(self.precision, d_w), None
        border = self.border
        d_b = np.linalg.solve(border.schur, rest_b - np.einsum("sqk,sq->k", border.cross, d_w))
        d_w = d_w - border.solved @ d_b
        return d_w, rest_w - _blocks_times(self.precision, d_w) - border.cross @ d_b, d_b


@dataclass(frozen=True)
class Mode:
    """A mode (or a point on the way): state, spot terms and the objective ``psi``.

    ``linear`` is the problem factorised at the mode; of a start, at a mode nearby.
    """

    coefficients: FloatArray  # (F+1, Q) B
    w: FloatArray  # (n, Q)
    alpha: FloatArray  # (n, Q)
    root: FloatArray  # (Q,)
    terms: SpotTerms
    psi: float
    linear: Linearisation | None = None

    @property
    def linearisation(self) -> Linearisation:
        """The factorised problem at this mode."""
        if self.linear is None:
            raise ModeError("the mode has not been factorised")
        return self.linear


def _blocks_times(blocks: FloatArray, vector: FloatArray) -> FloatArray:
    """``blocks_s vector_s`` for every spot."""
    if blocks.shape[1] == 1:
        return np.asarray(blocks[:, 0] * vector)
    return np.asarray((blocks @ vector[:, :, None])[:, :, 0])


def linearise(problem: LatentProblem, point: Mode, free: Mask | None = None) -> Linearisation:
    """Factorise ``H`` at ``point``; with ``free`` (F+1, Q) also the border of the coefficients."""
    root, big_a = point.root, point.terms.neg_hessian
    precision = root[:, None] * big_a * root
    linear = Linearisation(problem.factorise(precision), root, big_a, precision)
    if free is not None:
        linear = replace(linear, border=bordered(problem, linear, free))
    return linear


def bordered(problem: LatentProblem, linear: Linearisation, free: Mask) -> Border:
    """Return the border of the ``free`` (F+1, Q) coefficients; costs K solves."""
    design, root, big_a = problem.gene.design, linear.root, linear.neg_hessian
    keep = np.flatnonzero(free.ravel())
    through = np.einsum("spq,sf->spfq", big_a, design).reshape(*big_a.shape[:2], -1)
    cross = root[:, None] * through[:, :, keep]
    solved = linear.factor.solve(cross)
    information = np.einsum("sf,spk->fpk", design, through[:, :, keep])
    information = information.reshape(design.shape[1] * root.size, -1)[keep]
    schur = information - np.einsum("sqk,sql->kl", cross, solved)
    return Border(cross, solved, 0.5 * (schur + schur.T))


def point_at(
    problem: LatentProblem,
    coefficients: FloatArray,
    w: FloatArray,
    alpha: FloatArray,
    spatial: FloatArray,
    nugget: FloatArray,
    linear: Linearisation | None = None,
) -> Mode:
    """Evaluate the spots at a state; ``linear`` is that of a mode nearby."""
    root = np.sqrt(spatial)
    terms = problem.spots.evaluate(problem.gene.design @ coefficients + root * w, nugget)
    psi = terms.value - 0.5 * float(np.vdot(w, alpha))
    return Mode(coefficients, w, alpha, root, terms, psi, linear)


def cold_start(
    problem: LatentProblem, coefficients: FloatArray, spatial: FloatArray, nugget: FloatArray
) -> Mode:
    """Return the point without a field."""
    zero = np.zeros((len(problem.gene.counts), problem.gene.n_logits))
    return point_at(problem, coefficients, zero, zero, spatial, nugget)


def find_mode(
    problem: LatentProblem,
    start: Mode,
    spatial: FloatArray,
    nugget: FloatArray,
    free: Mask | None = None,
) -> Mode:
    """Return the factorised mode at ``spatial`` = D and ``nugget`` = T (both (Q,)).

    Parameters
    ----------
    problem
        The gene, its covariance system and its spots.
    start
        Where to start; its factor, if it has one, is tried as a preconditioner.
    free
        (F+1, Q) mask of coefficients that move with the field; none move if it is left out.

    Raises
    ------
    ModeError
        If ``psi`` stops being finite or the steps do not end.
    """
    point = point_at(problem, start.coefficients, start.w, start.alpha, spatial, nugget)
    linear, fresh = _preconditioner(start, free), False
    before = at_last_factor = np.inf
    for _ in range(MAX_STEPS):
        if linear is None:
            linear, fresh = linearise(problem, point, free), True
        step, decrement = _newton(problem, point, linear, free)
        if not np.isfinite(decrement):
            raise ModeError("the Newton step of the field is not finite")
        local = abs(decrement) <= LOCAL * (1.0 + abs(point.psi))
        stalled = fresh and local and decrement > 0.25 * at_last_factor
        if abs(decrement) <= MODE_DECREMENT or stalled:
            if not fresh:
                linear = None  # lets go of its array
                linear = linearise(problem, point, free)
            return replace(point, linear=linear)
        if not fresh and not 0.0 < decrement <= CONTRACTION * before:
            linear = None
            continue
        moved = _climb(problem, point, step, decrement, spatial, nugget, halve=fresh, local=local)
        if moved is None and fresh:
            raise ModeError("no ascent of the field's log-posterior along a Newton step")
        if moved is None:
            linear = None
            continue
        if fresh:
            at_last_factor = decrement
        point, before, fresh = moved, decrement, False
    raise ModeError(f"the mode of the field was not reached in {MAX_STEPS} steps")


def _preconditioner(start: Mode, free: Mask | None) -> Linearisation | None:
    """Return the start's factor, unless it says nothing of coefficients that move."""
    linear = start.linear
    lacks_border = free is not None and linear is not None and linear.border is None
    return None if lacks_border else linear


_Step = tuple[FloatArray, FloatArray, FloatArray | None]


def _newton(
    problem: LatentProblem, point: Mode, linear: Linearisation, free: Mask | None
) -> tuple[_Step, float]:
    """Return the (quasi-)Newton step at ``point`` and its squared decrement."""
    score = point.terms.score
    rest_w = point.root * score - point.alpha
    rest_b = None if free is None else (problem.gene.design.T @ score)[free]
    step = linear.step(rest_w, rest_b)
    decrement = float(np.vdot(rest_w, step[0]))
    if rest_b is not None and step[2] is not None:
        decrement += float(rest_b @ step[2])
    return (step[0], step[1], _spread(step[2], free)), decrement


def _spread(values: FloatArray | None, free: Mask | None) -> FloatArray | None:
    """Put the free coefficients' step into the full (F+1, Q) shape."""
    if values is None or free is None:
        return None
    full = np.zeros(free.shape)
    full[free] = values
    return full


def _climb(
    problem: LatentProblem,
    point: Mode,
    step: _Step,
    decrement: float,
    spatial: FloatArray,
    nugget: FloatArray,
    *,
    halve: bool,
    local: bool,
) -> Mode | None:
    """Move along ``step`` until ``psi`` rises, at once if ``local``; None if it does not."""
    slack = ROUNDING * (1.0 + abs(point.psi))
    scale = 1.0
    for _ in range(MAX_HALVINGS if halve else 1):
        d_b = 0.0 if step[2] is None else scale * step[2]
        moved = point_at(
            problem,
            point.coefficients + d_b,
            point.w + scale * step[0],
            point.alpha + scale * step[1],
            spatial,
            nugget,
        )
        if local or moved.psi >= point.psi + 1e-4 * scale * decrement - slack:
            return moved
        scale *= 0.5
    return None
