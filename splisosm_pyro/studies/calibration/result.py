"""What a calibration study says: ranks, a test for each quantity under one budget, words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from splisosm_pyro.fit.options import as_names
from splisosm_pyro.maths.numeric.arrays import FloatArray, IndexArray
from splisosm_pyro.plots import FINE, FLAGGED, panels
from splisosm_pyro.studies.calibration.uniformity import UniformityTest

COVERED = (0.5, 0.9)
AXES = {
    "beta": ("covariate", "logit"),
    "bias_eta": ("logit",),
    "sigma": ("component",),
    "theta": ("component",),
    "isoform_ratio": ("spot", "isoform"),
}
# Ranks scaled to 0..1 have this variance under uniformity.
UNIFORM_VARIANCE = 1.0 / 12.0


@dataclass(frozen=True, eq=False)
class Calibration:
    """The outcome of ``calibrate``.

    Attributes
    ----------
    ranks : DataFrame
        One row a simulated gene whose posterior did not break, one column a quantity; 0..``draws``.
    table : DataFrame
        One row a quantity: ``p_value`` of uniform ranks, ``flagged`` (below ``alpha`` divided by
        the number of quantities), ``verdict`` in words, ``mean_rank`` (0.5 if not biased) and
        ``rank_sd_ratio`` (1; above for too narrow posteriors), ``coverage_50``, ``coverage_90``.
    draws : int
        L, draws that a truth was ranked among.
    alpha : float
        False-alarm budget of the study.
    method : str
    failures : list of str
        What the posteriors that broke said.

    Examples
    --------
    >>> from splisosm_pyro import MultinomGLM, simulate_tissue
    >>> from splisosm_pyro.posterior import PosteriorPriors
    >>> from splisosm_pyro.studies import calibrate
    >>> tissue = simulate_tissue(n_spots=37, n_genes=1, n_isos=2, depth=4.0, design="none", seed=0)
    >>> model = MultinomGLM()
    >>> model.setup_data(tissue.counts)
    >>> study = calibrate(model, "laplace", n_sims=20, prior=PosteriorPriors(bias_sd=1.0))
    >>> study.n_failed, study.passed
    (0, True)
    """

    ranks: pd.DataFrame
    table: pd.DataFrame
    draws: int
    alpha: float
    method: str
    failures: list[str] = field(default_factory=list)

    @property
    def n_failed(self) -> int:
        """How many simulated genes had no posterior; they are not among the ranks."""
        return len(self.failures)

    @property
    def passed(self) -> bool:
        """Whether no quantity is flagged."""
        return not bool(self.table["flagged"].any())

    def test(self) -> UniformityTest:
        """Return the test that the ranks were put to."""
        return UniformityTest(len(self.ranks), self.draws)

    def plot(self, quantities: Sequence[str] | None = None) -> Any:
        """Draw the difference of each ecdf of ranks to that of uniform ranks, with its band.

        Returns
        -------
        matplotlib Figure
        """
        return calibration_figure(self, quantities)


def summarised(
    outcomes: Sequence[Mapping[str, FloatArray] | str],
    labels: Mapping[str, Any],
    draws: int,
    alpha: float,
) -> Calibration:
    """Put the ranks of all simulated genes together and test them."""
    failures = [found for found in outcomes if isinstance(found, str)]
    found = [ranks for ranks in outcomes if not isinstance(ranks, str)]
    if not found:
        raise ValueError(f"method broke for every simulated gene; the first said {failures[0]!r}")
    columns = {
        label: np.array([ranks[name].ravel()[i] for ranks in found], dtype=np.intp)
        for name, example in found[0].items()
        for i, label in enumerate(_labels(name, example.shape, labels))
        if label
    }
    ranks = pd.DataFrame(columns)
    test = UniformityTest(len(ranks), draws)
    level = alpha / len(columns)
    table = pd.DataFrame([_row(values, test, level) for values in columns.values()])
    table.index = pd.Index(list(columns), name="quantity")
    return Calibration(ranks, table, draws, alpha, labels["method"], failures)


def _labels(name: str, shape: tuple[int, ...], labels: Mapping[str, Any]) -> list[str]:
    """Name the entries of a quantity; an empty name for the last isoform, which the others fix."""
    out = []
    for place in np.ndindex(*shape):
        if name == "isoform_ratio" and place[-1] == shape[-1] - 1:
            out.append("")
            continue
        words = [
            str(labels[axis][i]) if axis in labels else str(i)
            for axis, i in zip(AXES[name], place, strict=True)
        ]
        out.append(f"{name}[{', '.join(words)}]")
    return out


def _row(ranks: IndexArray, test: UniformityTest, level: float) -> dict[str, Any]:
    """Test one quantity and say what is wrong with it."""
    scaled = (ranks + 0.5) / (test.n_draws + 1)
    p_value = test.p_value(ranks)
    mean, ratio = float(scaled.mean()), float(np.sqrt(scaled.var() / UNIFORM_VARIANCE))
    flagged = p_value < level
    row = {
        "p_value": p_value,
        "flagged": flagged,
        "verdict": _verdict(mean, ratio, ranks.size) if flagged else "",
        "mean_rank": mean,
        "rank_sd_ratio": ratio,
    }
    for share in COVERED:
        inside = np.abs(scaled - 0.5) <= 0.5 * share
        row[f"coverage_{round(100 * share)}"] = float(inside.mean())
    return row


def _verdict(mean: float, ratio: float, n_ranks: int) -> str:
    """Say in words how ranks with this mean and spread miss uniformity."""
    words = []
    error = np.sqrt(UNIFORM_VARIANCE / n_ranks)
    if abs(mean - 0.5) > 3.0 * error:
        words.append(f"the posterior lies too {'low' if mean > 0.5 else 'high'}")
    if abs(ratio - 1.0) > 3.0 * np.sqrt(0.2 / n_ranks):
        words.append(f"the posterior is too {'narrow' if ratio > 1.0 else 'wide'}")
    return "; ".join(words) or "the ranks are not uniform in shape"


def calibration_figure(study: Calibration, quantities: Sequence[str] | None = None) -> Figure:
    """Draw one panel a quantity: ecdf of the ranks less that of uniform ranks, and its band."""
    shown = as_names("quantities", study.table.index if quantities is None else quantities)
    wrong = [name for name in shown if name not in study.table.index]
    if wrong or not shown:
        raise ValueError(f"quantities must be among {list(study.table.index)}, came {quantities!r}")
    test = study.test()
    low, high = test.band(study.alpha / len(study.table))
    figure, axes = panels(len(shown))
    for ax, name in zip(axes, shown, strict=True):
        flagged = bool(study.table.loc[name, "flagged"])
        ecdf = test.ecdf(study.ranks[name].to_numpy())
        ax.fill_between(test.levels, low - test.levels, high - test.levels, color="0.85", lw=0)
        ax.plot(test.levels, ecdf - test.levels, color=FLAGGED if flagged else FINE, lw=1.2)
        ax.axhline(0.0, color="0.4", lw=0.6)
        ax.set(title=name, xlim=(0.0, 1.0), xlabel="scaled rank", ylabel="ECDF difference")
        ax.title.set_fontsize(9)
    figure.suptitle(
        f"{study.method}: {len(study.ranks)} simulated genes, band for all quantities together "
        f"at {1.0 - study.alpha:.0%}",
        fontsize=10,
    )
    return figure
