"""The conditional mode of the latent field, for one gene at given variances.

State ``(w, alpha)`` on the occupied spots with ``K w = alpha`` (``K = V^-1``, alpha zero at empty
spots), so that ``w' K w = sum_s w_s' alpha_s`` for every form of the covariance. With the nugget
eliminated spot by spot (``maths/spot.py``), the mode maximises the concave

    psi(w, B) = sum_s h_s(X_s B + D^1/2 w_s) - 1/2 w' K w

over ``w`` (and over the coefficients ``B`` in the joint problem). At the mode
``alpha = D^1/2 h'``. Newton's matrix is ``H = K x I_Q + blockdiag(G_s)``, ``G = D^1/2 A D^1/2``;
from one mode to the next the last factor serves as a preconditioner (chord steps cost a solve, not
a factorisation) until it stops contracting.
"""

from dataclasses import dataclass, replace

import numpy as np

from splisosm_pyro.fit.latent import LatentProblem
from splisosm_pyro.maths.protocols import Factor
from splisosm_pyro.maths.spot import FloatArray, SpotTerms

# Squared Newton decrement of a mode: the value is then right to its square root, 1e-10 nats.
MODE_DECREMENT = 1e-20
# A chord step that leaves more of the squared decrement than this calls for a new factor.
CONTRACTION = 0.1
MAX_STEPS = 200
MAX_HALVINGS = 40
# psi is only known to this relative precision; below STALL steps that do not contract are rounding.
ROUNDING = 1e-13
STALL = 1e-15


class ModeError(ArithmeticError):
    """The mode of the field could not be found."""


@dataclass(frozen=True)
class Linearisation:
    """``H`` factorised at one point, and what a Newton step from near that point needs."""

    factor: Factor
    root: FloatArray  # (Q,) D^1/2
    neg_hessian: FloatArray  # (n, Q, Q) A
    precision: FloatArray  # (n, Q, Q) G
    border: FloatArray | None = None  # (n, Q, K) D^1/2 A X, free coefficients only
    border_solved: FloatArray | None = None  # H^-1 border
    schur: FloatArray | None = None  # (K, K) X'AX - border' H^-1 border

    def step(
        self, rest_w: FloatArray, rest_b: FloatArray | None
    ) -> tuple[FloatArray, FloatArray, FloatArray | None]:
        """Return the Newton step in ``(w, alpha, B)`` for the given residuals."""
        d_w = self.factor.solve(rest_w)
        if rest_b is None:
            return d_w, rest_w - _blocks_times(self.precision, d_w), None
        assert self.border is not None
        assert self.border_solved is not None
        d_b = np.linalg.solve(self.schur, rest_b - np.einsum("sqk,sq->k", self.border, d_w))
        d_w = d_w - self.border_solved @ d_b
        return d_w, rest_w - _blocks_times(self.precision, d_w) - self.border @ d_b, d_b


@dataclass(frozen=True)
class Mode:
    """A mode (or a point on the way): state, spot terms and the objective ``psi``."""

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


def linearise(problem: LatentProblem, point: Mode, free: FloatArray | None = None) -> Linearisation:
    """Factorise ``H`` at ``point``; with ``free`` (F+1, Q) also the border of the coefficients."""
    root, big_a = point.root, point.terms.neg_hessian
    precision = root[:, None] * big_a * root
    linear = Linearisation(problem.factorise(precision), root, big_a, precision)
    if free is not None:
        linear = with_border(problem, linear, free)
    problem.current = linear
    return linear


def with_border(problem: LatentProblem, linear: Linearisation, free: FloatArray) -> Linearisation:
    """Add what coefficients that move with the field need; costs K solves."""
    design, root, big_a = problem.gene.design, linear.root, linear.neg_hessian
    n_logits = root.size
    keep = np.flatnonzero(free.ravel())
    through = np.einsum("spq,sf->spfq", big_a, design).reshape(*big_a.shape[:2], -1)
    border = root[:, None] * through[:, :, keep]
    solved = linear.factor.solve(border)
    information = np.einsum("sf,spk->fpk", design, through[:, :, keep])
    information = information.reshape(design.shape[1] * n_logits, -1)[keep]
    schur = information - np.einsum("sqk,sql->kl", border, solved)
    return replace(linear, border=border, border_solved=solved, schur=0.5 * (schur + schur.T))


def point_at(
    problem: LatentProblem,
    coefficients: FloatArray,
    w: FloatArray,
    alpha: FloatArray,
    spatial: FloatArray,
    nugget: FloatArray,
) -> Mode:
    """Evaluate the spots at a state."""
    root = np.sqrt(spatial)
    terms = problem.spots.evaluate(problem.gene.design @ coefficients + root * w, nugget)
    psi = terms.value - 0.5 * float(np.vdot(w, alpha))
    return Mode(coefficients, w, alpha, root, terms, psi)


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
    free: FloatArray | None = None,
) -> Mode:
    """Return the factorised mode at ``spatial`` = D and ``nugget`` = T (both (Q,)).

    Parameters
    ----------
    problem
        The gene, its covariance system and its spots.
    start
        Where to start; the problem's last factor is tried as a preconditioner.
    free
        (F+1, Q) mask of coefficients that move with the field; none move if it is left out.

    Raises
    ------
    ModeError
        If ``psi`` stops being finite or the steps do not end.
    """
    point = point_at(problem, start.coefficients, start.w, start.alpha, spatial, nugget)
    linear, fresh = problem.current, False
    before = np.inf
    for _ in range(MAX_STEPS):
        if linear is None:
            linear, fresh = linearise(problem, point, free), True
        step, decrement = _newton(problem, point, linear, free)
        if not np.isfinite(decrement):
            raise ModeError("the Newton step of the field is not finite")
        stalled = decrement >= 0.25 * before and decrement < STALL * (1.0 + abs(point.psi))
        if abs(decrement) <= MODE_DECREMENT or stalled:
            at_mode = linear if fresh else linearise(problem, point, free)
            return replace(point, linear=at_mode)
        moved = None
        if fresh or (decrement > 0 and decrement <= CONTRACTION * before):
            moved = _climb(problem, point, step, decrement, spatial, nugget, halve=fresh)
        if moved is None:
            if fresh:
                raise ModeError("no ascent of the field's log-posterior along a Newton step")
            linear, before = None, np.inf
            continue
        point, before, fresh = moved, decrement, False
    raise ModeError(f"the mode of the field was not reached in {MAX_STEPS} steps")


_Step = tuple[FloatArray, FloatArray, FloatArray | None]


def _newton(
    problem: LatentProblem, point: Mode, linear: Linearisation, free: FloatArray | None
) -> tuple[_Step, float]:
    """Return the (quasi-)Newton step at ``point`` and its squared decrement."""
    score = point.terms.score
    rest_w = point.root * score - point.alpha
    rest_b = None if free is None else (problem.gene.design.T @ score)[free]
    step = linear.step(rest_w, rest_b)
    decrement = float(np.vdot(rest_w, step[0]))
    if rest_b is not None:
        decrement += float(np.vdot(rest_b, step[2]))
    return (step[0], step[1], _spread(step[2], free)), decrement


def _spread(values: FloatArray | None, free: FloatArray | None) -> FloatArray | None:
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
) -> Mode | None:
    """Move along ``step`` until ``psi`` rises; None if it does not."""
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
        if moved.psi >= point.psi + 1e-4 * scale * decrement - slack:
            return moved
        scale *= 0.5
    return None
