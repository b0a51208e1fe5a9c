"""Coefficients of a gene averaged over its variances: what intervals of effects are drawn from.

The errors of coefficients hang on sigma and theta, of which a gene's counts say little: its fit
often ends at theta = 0 or 1, and sigma, fitted together with the coefficients, comes out too small.
Given both the coefficients ``B`` are nearly Gaussian, so that the posterior is a mixture over nodes
``v_k = (sigma_k, theta_k)``,

    p(B | y) = sum_k w_k N(B; m_k, S_k^-1),    log w_k = L(m_k, v_k) - 1/2 log|S_k| + log l_k,

with ``L`` the log marginal and all log priors, ``m_k`` a Newton step from a point nearby, ``S_k``
the information there and ``l_k`` the weight of the rule. Having ``B`` integrated out in ``w_k`` is
what restricted maximum likelihood does. Nodes of theta are those of Gauss and Legendre where it may
lie; those of log sigma are evenly spaced, from the middle outwards until they weigh nothing.

References: Rue, Martino and Chopin (2009), doi:10.1111/j.1467-9868.2008.00700.x; Patterson and
Thompson (1971), doi:10.1093/biomet/58.3.545.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from splisosm_pyro.fit.glmm.marginal_objective import MarginalObjective
from splisosm_pyro.fit.glmm.specification import EvaluatedObjective
from splisosm_pyro.fit.glmm.uncertainty import OuterUncertainty
from splisosm_pyro.fit.marginal.conditional_mode import bordered
from splisosm_pyro.fit.marginal.smooth_part import MarginalState
from splisosm_pyro.fit.search.quasi_newton import Evaluation
from splisosm_pyro.genes.average_usage import Parameters
from splisosm_pyro.maths.numeric.arrays import FloatArray

# Nodes of theta, over so many standard deviations to either side where the counts know it.
THETAS, REACH = 5, 3.0
# Nodes of log sigma are so many of its standard deviations apart, which is taken as within these;
# those to one side end where they weigh exp(-LIGHT) of the heaviest, or after so many.
APART, NARROWEST, WIDEST = 1.8, 0.1, 0.7
LIGHT, MOST_ASIDE = 3.5, 4
# There is one only for a theta whose middle weighs exp(-FAR) of the heaviest.
FAR = 5.0
# The middle is no smaller: towards sigma = 0 nothing changes any more.
LEAST_SIGMA = 0.1
# Newton's steps in the coefficients end at this gain in nats, or after so many; sites of
# expectation propagation need be right to this only.
SMALL_GAIN, MOST_STEPS, SITES = 0.3, 3, 1e-2


@dataclass(frozen=True, eq=False)
class Node:
    """Variances with what the coefficients are given them.

    Attributes
    ----------
    log_sigma, theta
        Where it lies.
    log_mass
        ``log w`` up to a constant.
    mean, covariance
        (k,) and (k, k) of the coefficients that move.
    """

    log_sigma: float
    theta: float
    log_mass: float
    mean: FloatArray
    covariance: FloatArray


def averaged_over_variances(
    ended: EvaluatedObjective, outer: OuterUncertainty, own: Parameters
) -> Parameters:
    """Return a gene's parameters with the mixture that intervals are drawn from.

    They come back as they are where sigma or theta do not move, or there are several of them.

    Parameters
    ----------
    ended, outer
        Where the fit ended, and the curvature there.
    own
        The parameters as they were fitted.
    """
    objective = ended.objective
    if not isinstance(objective, MarginalObjective) or not _moves_both(objective):
        return own
    nodes = nodes_of(objective, ended.at, outer.standard_errors()[:2])
    if not nodes:
        return own
    log_mass = np.array([node.log_mass for node in nodes])
    weights = np.exp(log_mass - log_mass.max())
    mixture = tuple(_component(objective, own, node) for node in nodes)
    return replace(own, mixture=mixture, weights=weights / weights.sum())


def _moves_both(objective: MarginalObjective) -> bool:
    """Whether one sigma and one theta are searched for."""
    space = objective.space
    return space.n_sigma == 1 and not space.white and space.held_theta is None


def nodes_of(
    objective: MarginalObjective, at: Evaluation[MarginalState], errors: FloatArray
) -> list[Node]:
    """Return the nodes, from the theta that was fitted outwards.

    Parameters
    ----------
    objective, at
        Of one sigma and one theta, and its maximum.
    errors
        (2,) of log sigma and theta_logit, infinite where they are not known.
    """
    rough = replace(objective, smooth=objective.smooth.rough(SITES))
    thetas, shares = _theta_rule(float(expit(at.u[1])), float(errors[1]))
    apart = APART * float(np.clip(errors[0], NARROWEST, WIDEST))
    split = int(np.searchsorted(thetas, expit(at.u[1])))
    found: list[Node] = []
    for order in (range(split, THETAS), range(split - 1, -1, -1)):
        middle, near = max(float(at.u[0]), np.log(LEAST_SIGMA)), at
        for k in order:
            own = list(_along_sigma(rough, middle, apart, float(thetas[k]), near, found))
            found += [replace(node, log_mass=node.log_mass + np.log(shares[k])) for node, _ in own]
            if own:
                heaviest, near = max(own, key=lambda one: one[0].log_mass)
                middle = heaviest.log_sigma
    return found


def _theta_rule(fitted: float, error: float) -> tuple[FloatArray, FloatArray]:
    """Return nodes of theta and the logarithms' shares of the interval that it may lie in."""
    aside = REACH * error * fitted * (1.0 - fitted) if np.isfinite(error) else np.inf
    low, high = max(0.0, fitted - aside), min(1.0, fitted + aside)
    place, weight = np.polynomial.legendre.leggauss(THETAS)
    return low + (high - low) * 0.5 * (place + 1.0), weight


def _along_sigma(
    objective: MarginalObjective,
    middle: float,
    apart: float,
    theta: float,
    near: Evaluation[MarginalState],
    others: list[Node],
) -> Iterator[tuple[Node, Evaluation[MarginalState]]]:
    """Yield the nodes of one theta with their evaluations, the middle one first."""
    first = _node(objective, middle, theta, near)
    if first is None:
        return
    yield first
    most = max([first[0].log_mass, *(one.log_mass for one in others)])
    if first[0].log_mass < most - FAR:
        return
    for side in (1.0, -1.0):
        last = first
        for k in range(1, 1 + MOST_ASIDE):
            there = _node(objective, middle + side * k * apart, theta, last[1])
            if there is None:
                break
            yield there
            last, most = there, max(most, there[0].log_mass)
            if last[0].log_mass < most - LIGHT:
                break


def _node(
    objective: MarginalObjective, log_sigma: float, theta: float, near: Evaluation[MarginalState]
) -> tuple[Node, Evaluation[MarginalState]] | None:
    """Return the coefficients given the variances; None where they are not to be had."""
    space = objective.space
    box, u = space.box(), near.u.copy()
    if not box.lower[0] <= log_sigma <= box.upper[0]:
        return None
    u[:2] = log_sigma, logit(theta)
    for _ in range(MOST_STEPS):
        try:
            value, state = objective.value(u, near)
            if not np.isfinite(value):
                return None
            slope, state = objective.gradient(u, state)
            here = Evaluation(u, value, slope, state)
            information = _information(objective, state)
            root = np.linalg.cholesky(information)
        except (ArithmeticError, np.linalg.LinAlgError):
            return None
        step = np.linalg.solve(information, slope[2:])
        gain = 0.5 * float(slope[2:] @ step)
        if gain <= SMALL_GAIN:
            break
        near, u = here, box.project(np.concatenate([u[:2], u[2:] + step]))
    free_of = space.priors.log_jacobian(np.array([theta]), np.array([np.exp(log_sigma)]))
    mass = value + min(gain, SMALL_GAIN) - np.log(root.diagonal()).sum()
    mass += float(free_of) - np.log(theta * (1.0 - theta))  # a density of (log sigma, theta)
    covariance = np.asarray(np.linalg.inv(information), dtype=np.float64)
    return Node(log_sigma, theta, float(mass), here.u[2:] + step, covariance), here


def _information(objective: MarginalObjective, state: MarginalState) -> FloatArray:
    """Return that of the coefficients that move, the field moving along."""
    space = objective.space
    own = bordered(objective.problem, state.mode.linearisation, space.free).schur
    return own if space.priors.coefficients.flat else own + space.prior_precision()


def _component(objective: MarginalObjective, own: Parameters, node: Node) -> Parameters:
    """Return a node as parameters, sigma held."""
    free, coefficients = objective.space.free, own.coefficients.copy()
    coefficients[free] = node.mean
    covariance = np.zeros_like(own.covariance)
    place = np.flatnonzero(free)
    covariance[np.ix_(place, place)] = node.covariance
    return Parameters(coefficients, np.exp([node.log_sigma]), covariance, own.turn)
