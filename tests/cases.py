"""A dozen named problems that every floor is tested on, each with a point in parameter space."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Case:
    """Counts of a batch of genes, what belongs to them, and parameters to evaluate densities at."""

    name: str
    counts: np.ndarray  # (G,S,P) float64
    design: np.ndarray  # (S,F)
    V: np.ndarray  # (S,S) spatial correlation
    coords: np.ndarray  # (S,2)
    beta: np.ndarray  # (G,F,Q)
    bias_eta: np.ndarray  # (G,Q)
    nu: np.ndarray  # (G,S,Q)
    sigma: np.ndarray  # (G,C)
    theta: np.ndarray  # (G,C)

    def __str__(self):
        return self.name

    @property
    def shape(self):
        """G, S, P."""
        return self.counts.shape

    @property
    def share_variance(self):
        """True if the logits share one variance (also where there is one logit only)."""
        return self.sigma.shape[1] == 1

    def B(self, gene):
        """Coefficients (F+1,Q) of a gene, the intercept last."""
        return np.vstack([self.beta[gene], self.bias_eta[gene]])

    @property
    def singular(self):
        """True if some nu has a covariance without full rank."""
        return bool((self.sigma == 0).any())


def correlation(coords, length=0.35):
    """An exponential correlation, positive definite for distinct spots."""
    gaps = np.linalg.norm(coords[:, None] - coords[None], axis=-1)
    return np.exp(-gaps / length)


def lattice(n_rows, n_columns):
    """Coordinates (S,2) and the adjacency matrix (S,S) of a rectangular lattice of 4 neighbours."""
    coords = np.array([(i, j) for i in range(n_rows) for j in range(n_columns)], dtype=float)
    gaps = np.abs(coords[:, None] - coords[None]).sum(-1)
    return coords, (gaps == 1.0).astype(float)


def car_correlation(adjacency, rho=0.9):
    """Inverse of I - rho D^-1/2 W D^-1/2, scaled to unit diagonal, and its precision."""
    root = 1 / np.sqrt(adjacency.sum(1))
    cov = np.linalg.inv(np.eye(len(adjacency)) - rho * root[:, None] * adjacency * root)
    scale = 1 / np.sqrt(np.diag(cov))
    return scale[:, None] * cov * scale


def make(
    name,
    seed,
    n_genes=1,
    n_spots=13,
    n_isos=3,
    n_factors=0,
    depth=6.0,
    shared=True,
    sigma=0.8,
    theta=0.4,
    empty=0,
):
    """Draw a case; ``empty`` spots, the first ones, have no counts."""
    rng = np.random.default_rng(seed)
    n_logits = n_isos - 1
    n_components = 1 if shared else n_logits
    coords = rng.uniform(size=(n_spots, 2))
    V = correlation(coords)
    design = rng.normal(size=(n_spots, n_factors))
    # genes and components differ, but where sigma or theta sits at an end it stays there
    spread = 1 + 0.2 * np.arange(n_genes * n_components).reshape(n_genes, n_components)
    sigmas = sigma * spread
    thetas = np.full_like(spread, theta) if theta in (0.0, 1.0) else theta**spread
    beta = 0.5 * rng.normal(size=(n_genes, n_factors, n_logits))
    bias_eta = 0.5 * rng.normal(size=(n_genes, n_logits))
    root = np.linalg.cholesky(V)
    smooth = root @ rng.normal(size=(n_genes, n_spots, n_logits))
    white = rng.normal(size=smooth.shape)
    scale = sigmas[:, None]
    nu = scale * (np.sqrt(thetas)[:, None] * smooth + np.sqrt(1 - thetas)[:, None] * white)
    eta = design @ beta + bias_eta[:, None] + nu
    weights = np.exp(np.concatenate([eta, np.zeros((n_genes, n_spots, 1))], -1).clip(-30, 30))
    totals = rng.poisson(depth, size=(n_genes, n_spots))
    totals[:, :empty] = 0
    counts = rng.multinomial(totals, weights / weights.sum(-1, keepdims=True)).astype(float)
    return Case(name, counts, design, V, coords, beta, bias_eta, nu, sigmas, thetas)


def without_isoform(case, isoform, name):
    """The same case with an isoform that never occurs."""
    counts = case.counts.copy()
    counts[:, :, isoform] = 0.0
    return replace(case, name=name, counts=counts)


def _fractional(case, name):
    return replace(case, name=name, counts=case.counts * 0.75)


CASES = {
    case.name: case
    for case in (
        make("two_isoforms", 1, n_isos=2, n_factors=1),
        make("three_isoforms", 2, n_isos=3),
        make("five_isoforms", 3, n_spots=11, n_isos=5, shared=False, n_factors=2),
        make("empty_spots", 4, n_isos=3, empty=5, depth=2.0),
        without_isoform(make("", 5, n_isos=3, n_factors=1), 0, "empty_isoform"),
        make("one_spot", 6, n_spots=1, n_isos=3),
        make("one_occupied_spot", 7, n_spots=7, n_isos=3, empty=6, depth=9.0),
        make("white_noise", 8, n_isos=3, theta=0.0, n_factors=1),
        make("all_spatial", 9, n_isos=3, theta=1.0),
        make("tiny_sigma", 10, n_isos=3, sigma=1e-3, n_factors=1),
        make("huge_sigma", 11, n_isos=3, sigma=8.0),
        make("covariates", 12, n_spots=17, n_isos=3, n_factors=3, shared=False),
        make("batch", 13, n_genes=5, n_spots=11, n_isos=3, n_factors=2, shared=False, empty=2),
        make("rich", 14, n_isos=3, depth=1e4),
        _fractional(make("", 15, n_isos=3), "fractional"),
    )
}


def some(*names):
    """Cases by name, for ``pytest.mark.parametrize``."""
    return [CASES[name] for name in names]
