"""The demonstration: a simulated tissue, its genes fitted, the estimates beside the truth."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from splisosm_pyro.genes.data.covariates import Covariate
from splisosm_pyro.genes.data.slide import GeneGroup, Slide
from splisosm_pyro.genes.job import RunOptions
from splisosm_pyro.genes.result.gene_fits import GeneFits
from splisosm_pyro.genes.run.first_use import compile_ahead
from splisosm_pyro.genes.run.fit_genes import fit_slide
from splisosm_pyro.plots import GeneMaps, gene_figure
from splisosm_pyro.simulate import Tissue, simulate_tissue

Row = dict[Hashable, Any]

# Reads a spot, gene after gene: 0.3 is the mean of real genes.
DEPTHS = (0.3, 0.3, 1.0, 0.3, 5.0, 0.3, 0.3, 1.0, 0.3, 20.0)
LEGEND = """\
sigma: standard deviation of nu (logits); theta: its spatial proportion; bias_q, beta_layer_q:
logits of isoform q against the last isoform, of a layer against the first. +- is the standard error
of the GLMM's estimate, inf at a bound."""
N_ISOS = 2
N_LAYERS = 3
DRAWN = 3  # genes in the figure


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demonstration found.

    Attributes
    ----------
    tissue : Tissue
    fits, glm : GeneFits
        Of the GLMM and of the GLM, in the order of the tissue's genes.
    table : DataFrame
        One row for each gene and parameter: truth, GLM and GLMM estimates, standard errors.
    """

    tissue: Tissue
    fits: GeneFits
    glm: GeneFits
    table: pd.DataFrame

    def text(self) -> str:
        """Return the estimates beside the truth, a block of lines for each gene."""
        return _text(self)

    def figure(self) -> Figure:
        """Return the maps of a few genes, from the shallowest to the deepest."""
        fitted = [g for g, params in enumerate(self.fits.params) if params is not None]
        if not fitted:
            raise ValueError(
                "no gene of the demonstration could be fitted, there is nothing to draw"
            )
        depth = np.log1p(self.tissue.counts.sum((1, 2)).numpy()[fitted])
        targets = np.linspace(depth.min(), depth.max(), DRAWN)
        nearest = np.unique(np.abs(depth - targets[:, None]).argmin(1))
        chosen = [fitted[i] for i in nearest[depth[nearest].argsort()]]
        rows = [_maps(self, g) for g in chosen]
        return gene_figure(self.tissue.coords, rows, scale_bar=(500.0, "500 µm"))


def run_demo(n_genes: int = 10, n_spots: int = 900, seed: int = 0, *, quiet: bool = False) -> Demo:
    """Simulate a tissue, fit the GLM and the marginal GLMM to its genes, compare with the truth.

    Parameters
    ----------
    n_genes, n_spots : int
        At least 1 gene; the tissue has 3 layers.
    seed : int
    quiet : bool
        No progress bar.

    Returns
    -------
    Demo

    Raises
    ------
    ValueError
        If a size is too small.

    Examples
    --------
    >>> demo = run_demo(n_genes=1, n_spots=37, quiet=True)
    >>> type(demo.figure()).__name__
    'Figure'
    """
    compile_ahead(RunOptions(), [N_ISOS], progress=not quiet)
    tissue = demo_tissue(n_genes, n_spots, seed)
    slide = slide_of_tissue(tissue)
    rho = tissue.kernel.rho
    fits = fit_slide(slide, RunOptions(rho=rho), progress=not quiet)
    glm = fit_slide(slide, RunOptions(rho=rho, model="glm"), progress=False)
    rows = [row for g in range(n_genes) for row in _compare(tissue, fits, glm, g)]
    return Demo(tissue, fits, glm, pd.DataFrame(rows))


def slide_of_tissue(tissue: Tissue) -> Slide:
    """Return a simulated tissue as if it were read from a file."""
    counts = tissue.counts.numpy()
    n_genes, _, n_isos = counts.shape
    names = list(tissue.design_names)
    layers = Covariate("layer", pd.DataFrame(tissue.design.numpy(), columns=names), ("", *names))
    group = GeneGroup(
        counts,
        np.array([f"gene {g}" for g in range(n_genes)]),
        np.array([[f"isoform {p}" for p in range(n_isos)]] * n_genes),
    )
    return Slide(tissue.coords, (layers,), (group,), adjacency=tissue.kernel.adjacency)


def demo_tissue(n_genes: int, n_spots: int, seed: int) -> Tissue:
    """Draw the tissue: most genes as shallow as real ones, some deeper.

    Parameters
    ----------
    n_genes, n_spots, seed : int

    Returns
    -------
    Tissue
    """
    rng = np.random.default_rng(seed)
    return simulate_tissue(
        n_spots,
        n_genes,
        N_ISOS,
        n_layers=N_LAYERS,
        depth=np.resize(DEPTHS, n_genes),
        sigma=rng.uniform(0.6, 1.4, n_genes),
        theta=rng.uniform(0.2, 0.9, n_genes),
        seed=rng,
    )


def _truth(tissue: Tissue, g: int) -> dict[str, float]:
    """Return the true parameters of a gene under the names of the table of fits."""
    truth = tissue.truth
    named = {"sigma": truth.sigma[g, 0].item(), "theta": truth.theta[g, 0].item()}
    named |= {f"bias_eta_{q}": value.item() for q, value in enumerate(truth.bias_eta[g])}
    for name, row in zip(tissue.design_names, truth.beta[g], strict=True):
        named |= {f"beta_{name}_{q}": value.item() for q, value in enumerate(row)}
    return named


def _compare(tissue: Tissue, fits: GeneFits, glm: GeneFits, g: int) -> Iterator[Row]:
    """Return a row for each parameter of a gene."""
    of_glm = glm.table.iloc[g].to_dict()
    of_glmm = _with_errors_of_variances(fits.table.iloc[g].to_dict())
    for parameter, truth in _truth(tissue, g).items():
        yield {
            "gene": f"gene {g}",
            "reads_per_spot": tissue.counts[g].sum().item() / len(tissue.coords),
            "status": of_glmm["status"],
            "parameter": parameter,
            "truth": truth,
            "glm": of_glm.get(parameter, np.nan),
            "glm_se": of_glm.get(f"{parameter}_se", np.nan),
            "glmm": of_glmm.get(parameter, np.nan),
            "glmm_se": of_glmm.get(f"{parameter}_se", np.nan),
        }


def _with_errors_of_variances(row: Row) -> Row:
    """Add the standard errors of sigma and theta, by the delta method."""
    if "sigma" not in row:
        return row
    sigma, theta = row["sigma"], row["theta"]
    return row | {
        "sigma_se": sigma * row["log_sigma_se"],
        "theta_se": theta * (1 - theta) * row["theta_logit_se"],
    }


def _text(demo: Demo) -> str:
    """Lay the table out with a column for each parameter and four lines for each gene."""
    tissue = demo.tissue
    empty = float((tissue.counts.sum(2) == 0).double().mean())
    head = f"{tissue}, {100 * empty:.0f} % of the spot-gene pairs without a read"
    table = demo.table.assign(gene=[_title(row) for row in demo.table.to_dict("records")])
    order = {"truth": "truth", "glm": "GLM", "glmm": "GLMM", "glmm_se": "+-"}
    long = table.melt(["gene", "parameter"], list(order), var_name="line")
    wide = long.pivot(index=["gene", "line"], columns="parameter", values="value")
    index = [(gene, line) for gene in table["gene"].unique() for line in order]
    wide = wide.loc[index, list(table["parameter"].unique())].rename(index=order)
    wide.columns = [
        name.replace("bias_eta", "bias").replace("layer ", "L") for name in wide.columns
    ]
    wide.index.names = [None, None]
    return f"{head}\n\n{wide.to_string(float_format='{:.2f}'.format, na_rep='')}\n\n{LEGEND}"


def _title(row: Mapping[Hashable, object]) -> str:
    """Return a gene's name with its depth and how its fit ended."""
    return f"{row['gene']}: {row['reads_per_spot']:.2f} reads a spot, {row['status']}"


def _maps(demo: Demo, g: int) -> GeneMaps:
    """Return the maps of the isoform whose true usage varies most."""
    tissue = demo.tissue
    truth = tissue.truth.ratio[g].numpy()
    counts = tissue.counts[g].numpy()
    ratio, error = demo.fits.usage(g)
    return GeneMaps(
        title=f"gene {g}\n{counts.sum() / len(counts):.2g} reads a spot",
        counts=counts.astype(np.float64),
        ratio=ratio,
        ratio_se=error,
        isoform=int(truth.std(0).argmax()),
        truth=truth,
    )
