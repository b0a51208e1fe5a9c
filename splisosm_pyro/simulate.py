"""Tissues and isoform counts with a known truth, drawn from the model at the depth of real data.

    total[g,s] ~ Poisson(depth[g] L[s] u[g,s]),  L log-normal, u gamma, both of mean 1
    nu[g,:,q]  = sigma (sqrt(theta) w + sqrt(1 - theta) e),  w ~ N(0, V), e ~ N(0, I)
    Y[g,s,:]   ~ Multinomial(total[g,s], softmax([X beta + bias_eta + nu, 0]))

The totals follow what long-read Visium data show: a mean of 0.31 reads a spot and gene (median gene
0.13), four of five spot-gene pairs empty, most of the others with a single read.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from splisosm_pyro.fit.options import choose
from splisosm_pyro.maths.coding import CODINGS, drawn_field
from splisosm_pyro.maths.covariance.car import CARKernel
from splisosm_pyro.maths.density.likelihood import isoform_ratio
from splisosm_pyro.maths.numeric.arrays import AnyArray, FloatArray, IndexArray, IntArray, StrArray

PITCH_UM = 100.0  # centre to centre of neighbouring spots
ASPECT = 1.2  # width of the tissue over its height
MEDIAN_DEPTH = 0.13  # reads a spot, of the median gene
LOG_DEPTH_SD = 1.32  # of the log-normal over genes; makes the mean 0.31
LIBRARY_CV = 0.55  # coefficient of variation of the spots' library sizes
DISPERSION = 0.3  # squared coefficient of variation of a gene about its library size
COEFFICIENT_SD = 0.5  # of beta and bias_eta where none are given, logits


@dataclass(frozen=True, eq=False)
class Truth:
    """The parameters that the counts were drawn from (G genes, Q = P - 1 logits).

    Attributes
    ----------
    beta : Tensor, shape (G, F, Q)
    bias_eta : Tensor, shape (G, Q)
    sigma, theta : Tensor, shape (G, C)
        Standard deviation (logits) of nu and its spatial proportion; C = 1 or Q.
    nu : Tensor, shape (G, S, Q)
    ratio : Tensor, shape (G, S, P)
        Isoform usage at every spot.

    Examples
    --------
    >>> truth = simulate_tissue(n_spots=37, n_genes=2, n_isos=3, sigma=0.5, seed=0).truth
    >>> truth.ratio.shape, truth.sigma.tolist()
    (torch.Size([2, 37, 3]), [[0.5], [0.5]])
    """

    beta: Tensor
    bias_eta: Tensor
    sigma: Tensor
    theta: Tensor
    nu: Tensor
    ratio: Tensor


@dataclass(frozen=True, eq=False)
class Tissue:
    """A simulated slide: S spots, G genes of P isoforms each.

    Attributes
    ----------
    coords : ndarray, shape (S, 2)
        x and y in microns; neighbouring spots are 100 apart.
    array_coords : ndarray of int64, shape (S, 2)
        Row and column on the array; the columns of a row are all even or all odd.
    layers : ndarray of str, shape (S,)
    layer_names : tuple of str
        From the outside to the inside (``rings``) or from left to right (``bands``).
    design : Tensor, shape (S, F)
    design_names : tuple of str
    counts : Tensor of int64, shape (G, S, P)
    kernel : CARKernel
        Over the lattice's 6 nearest neighbours.
    truth : Truth

    Examples
    --------
    >>> simulate_tissue(n_spots=37, n_genes=2, n_isos=3, n_layers=2, seed=0)
    Tissue(2 genes, 37 spots, 3 isoforms, 2 layers)
    """

    coords: FloatArray
    array_coords: IntArray
    layers: StrArray
    layer_names: tuple[str, ...]
    design: Tensor
    design_names: tuple[str, ...]
    counts: Tensor
    kernel: CARKernel
    truth: Truth

    def __repr__(self) -> str:
        G, S, P = self.counts.shape
        return f"Tissue({G} genes, {S} spots, {P} isoforms, {len(self.layer_names)} layers)"


def hexagonal_lattice(n_spots: int) -> tuple[IntArray, FloatArray]:
    """Lay out the ``n_spots`` sites of a hexagonal lattice that are nearest to its middle.

    Parameters
    ----------
    n_spots : int
        S, at least 1.

    Returns
    -------
    array_coords : ndarray of int64, shape (S, 2)
        Row and column, from 0; row by row.
    coords : ndarray, shape (S, 2)
        x and y in microns.

    Examples
    --------
    >>> array_coords, coords = hexagonal_lattice(7)
    >>> array_coords.tolist()
    [[0, 1], [0, 3], [1, 0], [1, 2], [1, 4], [2, 1], [2, 3]]
    """
    reach = int(np.ceil(2 * np.sqrt(n_spots))) + 2
    row, col = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    on_lattice = (row + col) % 2 == 0
    row, col = row[on_lattice], col[on_lattice]
    x, y = PITCH_UM / 2 * col, PITCH_UM * np.sqrt(0.75) * row
    # rounded, so that equidistant sites are decided by row and column and not by the last bit
    distance = np.round(np.hypot(x / ASPECT, y), 6)
    kept = np.sort(np.lexsort((col, row, distance))[:n_spots])
    row, col, x, y = row[kept] - row[kept].min(), col[kept] - col[kept].min(), x[kept], y[kept]
    coords = np.column_stack((x - x.min(), y - y.min()))
    return np.column_stack((row, col)).astype(np.int64), coords


def simulate_tissue(
    n_spots: int = 900,
    n_genes: int = 50,
    n_isos: int = 3,
    *,
    n_layers: int = 5,
    layout: Literal["rings", "bands"] = "rings",
    design: Literal["layers", "none"] | ArrayLike = "layers",
    depth: float | ArrayLike | None = None,
    totals: ArrayLike | None = None,
    beta: float | ArrayLike | None = None,
    bias_eta: float | ArrayLike | None = None,
    sigma: float | ArrayLike = 1.0,
    theta: float | ArrayLike = 0.5,
    rho: float = 0.99,
    seed: int | np.random.Generator = 0,
    coding: Literal["reference", "symmetric"] = "reference",
) -> Tissue:
    """Draw a tissue on a hexagonal lattice and the counts of its genes from the model.

    Parameters
    ----------
    n_spots, n_genes, n_isos : int
        S, G and P.
    n_layers : int
        Number of regions, with about as many spots each.
    layout : {'rings', 'bands'}
        Regions around each other or beside each other.
    design : {'layers', 'none'} or array_like, shape (S, F)
        Covariates: the layers one-hot without the first, none, or those given.
    depth : float or array_like, shape (G,), optional
        Mean reads a spot of each gene. Default: log-normal over genes, median 0.13, mean 0.31.
    totals : array_like of int, shape (G, S) or (S,), optional
        Reads of each gene at each spot, in the place of drawn ones.
    beta : array_like that broadcasts to (G, F, Q), optional
        Coefficients, logits. Default: drawn from N(0, 0.5^2).
    bias_eta : array_like that broadcasts to (G, Q), optional
        Intercepts, logits. Default: drawn from N(0, 0.5^2).
    sigma : float or array_like, shape (G,), (G, 1) or (G, Q)
        Standard deviation of nu, logits; 0 gives the GLM.
    theta : float or array_like, shape (G,), (G, 1) or (G, Q)
        Spatial proportion of the variance of nu, in [0, 1].
    rho : float
        Of the CAR kernel.
    seed : int or numpy Generator
        The global generators are neither read nor changed.
    coding : {'reference', 'symmetric'}
        Whether every logit against the last isoform has a field of its own, or every isoform.

    Returns
    -------
    Tissue

    Raises
    ------
    ValueError
        If a size, a range or a shape does not fit.

    Notes
    -----
    Costs one sparse factorisation and O(G S P).

    Examples
    --------
    >>> tissue = simulate_tissue(n_spots=300, n_genes=40, seed=0)
    >>> tissue
    Tissue(40 genes, 300 spots, 3 isoforms, 5 layers)
    >>> round(float((tissue.counts.sum(2) == 0).double().mean()), 2)
    0.84
    """
    _check_sizes(n_spots=(n_spots, 1), n_genes=(n_genes, 1), n_isos=(n_isos, 2))
    _check_sizes(n_layers=(n_layers, 1))
    rng = np.random.default_rng(seed)
    array_coords, coords = hexagonal_lattice(n_spots)
    layer = _layer_of(coords, n_layers, layout)
    names = tuple(f"layer {i + 1}" for i in range(n_layers))
    X, design_names = _design(design, layer, names)
    kernel = CARKernel.from_coords(coords, k=6, rho=rho)
    choose("coding", coding, CODINGS)
    given = beta, bias_eta, sigma, theta
    truth = _draw_truth(kernel, X, n_genes, n_isos - 1, given, coding, rng)
    if totals is None:
        total = _draw_totals(n_genes, n_spots, depth, rng)
    else:
        total = _given_totals(totals, (n_genes, n_spots))
    counts = torch.from_numpy(rng.multinomial(total, truth.ratio.numpy()).astype(np.int64))
    return Tissue(
        coords=coords,
        array_coords=array_coords,
        layers=np.array(names)[layer],
        layer_names=names,
        design=X,
        design_names=design_names,
        counts=counts,
        kernel=kernel,
        truth=truth,
    )


def _check_sizes(**sizes: tuple[int, int]) -> None:
    """Raise unless each named size is a whole number not below its least."""
    for name, (size, least) in sizes.items():
        if not isinstance(size, int | np.integer) or size < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, came {size!r}")


def _broadcast(name: str, value: ArrayLike, shape: tuple[int, ...]) -> AnyArray:
    """Broadcast, or raise with the name of the argument."""
    value = np.asarray(value)
    try:
        return np.broadcast_to(value, shape)
    except ValueError:
        raise ValueError(f"{name} must broadcast to {shape}, came shape {value.shape}") from None


def _layer_of(coords: FloatArray, n_layers: int, layout: str) -> IndexArray:
    """Cut the tissue at the quantiles of the position across its layers."""
    if layout not in ("rings", "bands"):
        raise ValueError(f"layout must be 'rings' or 'bands', came {layout!r}")
    if n_layers > len(coords):
        raise ValueError(f"n_layers must be at most n_spots = {len(coords)}, came {n_layers}")
    x, y = (coords - (coords.min(0) + coords.max(0)) / 2).T
    # a slow wave, so that the borders are not lines of the lattice
    angle = np.arctan2(y * ASPECT, x)
    wave = 0.08 * np.sin(3 * angle + 0.5)
    across = x if layout == "bands" else -np.hypot(x / ASPECT, y) * (1 + wave)
    rank = np.lexsort((np.arange(len(x)), np.round(across, 6))).argsort()
    return (rank * n_layers // len(x)).astype(np.intp)


def _design(
    design: str | ArrayLike, layer: IndexArray, names: tuple[str, ...]
) -> tuple[Tensor, tuple[str, ...]]:
    """Return the (S, F) design and the names of its columns."""
    if isinstance(design, str):
        if design not in ("layers", "none"):
            raise ValueError(f"design must be 'layers', 'none' or an array, came {design!r}")
        shown = names[1:] if design == "layers" else ()
        one_hot = layer[:, None] == np.arange(1, 1 + len(shown))
        return torch.from_numpy(one_hot.astype(np.float64)), shown
    X = np.array(design, dtype=np.float64)
    if X.ndim != 2 or len(X) != len(layer):
        raise ValueError(f"design must have shape ({len(layer)}, F), came {X.shape}")
    return torch.from_numpy(X), tuple(f"covariate_{i}" for i in range(X.shape[1]))


def _draw_truth(
    kernel: CARKernel,
    design: Tensor,  # (S, F)
    n_genes: int,
    n_logits: int,
    given: tuple[ArrayLike | None, ArrayLike | None, ArrayLike, ArrayLike],
    coding: str,
    rng: np.random.Generator,
) -> Truth:
    """Draw what is not given of beta and bias_eta, then nu and the ratios."""
    G, Q, (S, F) = n_genes, n_logits, design.shape
    beta = _coefficients("beta", given[0], (G, F, Q), rng)
    bias_eta = _coefficients("bias_eta", given[1], (G, Q), rng)
    sigma = _per_component("sigma", given[2], G, Q, upper=np.inf)
    theta = _per_component("theta", given[3], G, Q, upper=1.0)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    smooth = kernel.sample((G, Q), generator).transpose(1, 2)  # (G, S, Q)
    rough = torch.from_numpy(rng.standard_normal((G, S, Q)))
    nu = sigma[:, None] * (theta[:, None].sqrt() * smooth + (1 - theta[:, None]).sqrt() * rough)
    nu = drawn_field(nu, coding)
    eta = design @ beta + bias_eta[:, None] + nu
    return Truth(beta, bias_eta, sigma, theta, nu, isoform_ratio(eta))


def _coefficients(
    name: str, value: ArrayLike | None, shape: tuple[int, ...], rng: np.random.Generator
) -> Tensor:
    """Return the given coefficients in full, or draw them."""
    if value is None:
        return torch.from_numpy(COEFFICIENT_SD * rng.standard_normal(shape))
    return torch.from_numpy(np.array(_broadcast(name, value, shape), dtype=np.float64))


def _per_component(
    name: str, value: ArrayLike, n_genes: int, n_logits: int, upper: float
) -> Tensor:  # (G, C)
    """Return sigma or theta with one column, or with one for each logit."""
    array = np.asarray(value, dtype=np.float64)
    if array.ndim < 2:
        array = array.reshape(-1, 1)
    n_components = n_logits if array.shape[-1] == n_logits else 1
    full = np.array(_broadcast(name, array, (n_genes, n_components)), dtype=np.float64)
    if not ((full >= 0) & (full <= upper) & np.isfinite(full)).all():
        raise ValueError(f"{name} must lie in [0, {upper}], came {full.min()} to {full.max()}")
    return torch.from_numpy(full)


def _draw_totals(
    n_genes: int, n_spots: int, depth: ArrayLike | None, rng: np.random.Generator
) -> IntArray:  # (G, S)
    """Draw overdispersed totals about the product of a gene's depth and a spot's library size."""
    if depth is None:
        mean = MEDIAN_DEPTH * np.exp(LOG_DEPTH_SD * rng.standard_normal(n_genes))
    else:
        mean = np.asarray(_broadcast("depth", depth, (n_genes,)), dtype=np.float64)
    if not ((mean >= 0) & np.isfinite(mean)).all():
        raise ValueError(f"depth must be finite and not negative, came {depth!r}")
    log_sd = np.sqrt(np.log1p(LIBRARY_CV**2))
    library = np.exp(log_sd * rng.standard_normal(n_spots) - log_sd**2 / 2)
    burst = rng.gamma(1 / DISPERSION, DISPERSION, (n_genes, n_spots))
    return np.asarray(rng.poisson(mean[:, None] * library * burst), dtype=np.int64)


def _given_totals(totals: ArrayLike, shape: tuple[int, int]) -> IntArray:
    """Check that totals are whole numbers of reads, and broadcast them."""
    array = _broadcast("totals", totals, shape)
    if array.dtype.kind not in "iu" or (array < 0).any():
        raise ValueError("totals must be whole numbers that are not negative")
    return array.astype(np.int64)
