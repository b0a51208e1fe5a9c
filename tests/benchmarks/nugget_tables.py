"""The tables and the figure of ``nugget_study.py``."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from machine import provenance

CAP = 5.0  # larger sigmas count as this much
INFORMED = 300  # reads of a gene that has something to say about its variances
AT_ONE, AT_ZERO = 1 - 1e-4, 1e-4
# Of Okabe and Ito, which readers with a colour vision deficiency can tell apart.
COLOURS = {
    "laplace": "#E69F00",
    "quadrature": "#0072B2",
    "ep": "#009E73",
    "reference joint_gd": "#CC79A7",
}
OURS = ("laplace", "quadrature", "ep")
COMMAND = "python tests/benchmarks/nugget_study.py --part"


def summary(fits: pd.DataFrame, keys: tuple[str, ...]) -> pd.DataFrame:
    """Bias, median and root mean square error of both parameters, and where fits end, by cell."""

    def of_cell(cell: pd.DataFrame) -> pd.Series:
        sigma, theta = cell["sigma"].clip(upper=CAP), cell["theta"]
        off_sigma, off_theta = sigma - cell["true_sigma"], theta - cell["true_theta"]
        return pd.Series(
            {
                "genes": len(cell),
                "sigma_bias": off_sigma.mean(),
                "sigma_median": sigma.median(),
                "sigma_rmse": np.sqrt((off_sigma**2).mean()),
                "theta_bias": off_theta.mean(),
                "theta_median": theta.median(),
                "theta_rmse": np.sqrt((off_theta**2).mean()),
                "at_theta_1": (theta > AT_ONE).mean(),
                "sigma_above_5": (cell["sigma"] > CAP).mean(),
                "sigma_0": (cell["sigma"] < 1e-3).mean(),
                "milliseconds": 1e3 * cell["seconds"].median(),
            }
        )

    fits = fits.assign(method=pd.Categorical(fits["method"], fits["method"].unique()))
    columns = ["sigma", "theta", "true_sigma", "true_theta", "seconds"]
    return fits.groupby([*keys, "method"], observed=True)[columns].apply(of_cell)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, index as columns, two decimals."""
    flat = table.reset_index()
    lines = ["| " + " | ".join(map(str, flat.columns)) + " |", "|" + "---|" * flat.shape[1]]
    whole = [name in ("genes", "milliseconds", "depth") for name in flat.columns]
    for row in flat.itertuples(index=False):
        cells = [
            f"{x:.0f}" if round_it else f"{x:.2f}" if isinstance(x, float) else str(x)
            for x, round_it in zip(row, whole, strict=True)
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_simulation(fits: pd.DataFrame, docs: Path) -> None:
    """Write every fit, both summaries and the figure."""
    fits.round(6).to_csv(docs / "nugget_simulation.csv", index=False)
    informed, keys = fits[fits["reads"] >= INFORMED], ("true_sigma", "true_theta")
    parts = {
        f"Genes of {INFORMED} reads or more, all truths": summary(informed, ()),
        f"Genes of {INFORMED} reads or more, by truth": summary(informed, keys),
        "All genes, all truths": summary(fits, ()),
        "All genes, by truth": summary(fits, keys),
    }
    write_parts(
        docs / "nugget_tables.md", "Integration: every cell of the study", "simulation", parts
    )
    figure(informed, docs / "nugget.png")


def write_depth(fits: pd.DataFrame, docs: Path) -> None:
    """Write how the estimates near the truth as the reads grow."""
    fits.round(6).to_csv(docs / "nugget_depth.csv", index=False)
    parts = {
        "By depth and theta": summary(fits, ("depth", "true_theta")),
        "By depth and truth": summary(fits, ("depth", "true_sigma", "true_theta")),
    }
    write_parts(docs / "nugget_depth.md", "Integration as the reads grow", "depth", parts)


def write_small(fits: pd.DataFrame, docs: Path) -> None:
    """Write the comparison on a slide that the reference's marginal can do."""
    fits.round(6).to_csv(docs / "nugget_small.csv", index=False)
    keys = ("true_sigma", "true_theta")
    parts = {"By truth": summary(fits, keys)}
    write_parts(docs / "nugget_small.md", "Integration on a small slide", "small", parts)


def write_parts(path: Path, title: str, part: str, tables: dict[str, pd.DataFrame]) -> None:
    """Write a page of tables under their headings."""
    text = "\n".join(f"## {name}\n\n{markdown(table)}" for name, table in tables.items())
    path.write_text(f"# {title}\n\n{provenance(f'{COMMAND} {part}')}\n{text}", encoding="utf-8")


def figure(fits: pd.DataFrame, path: Path) -> None:
    """Boxes of the estimates by truth, the truth as a line."""
    sigmas, thetas = (sorted(fits[name].unique()) for name in ("true_sigma", "true_theta"))
    methods = [name for name in COLOURS if (fits["method"] == name).any()]
    width = 0.84 / len(methods)
    fig, axes = plt.subplots(2, len(sigmas), figsize=(9, 5.2), sharex=True, layout="constrained")
    for column, sigma in enumerate(sigmas):
        for row, name in enumerate(("sigma", "theta")):
            ax = axes[row, column]
            for k, method in enumerate(methods):
                part = fits[(fits["true_sigma"] == sigma) & (fits["method"] == method)]
                groups = [part[part["true_theta"] == t][name].clip(upper=CAP) for t in thetas]
                place = np.arange(len(thetas)) + (k - 0.5 * (len(methods) - 1)) * width
                boxes(ax, groups, place, 0.85 * width, COLOURS[method])
            for i, theta in enumerate(thetas):
                ax.hlines(sigma if name == "sigma" else theta, i - 0.45, i + 0.45, "k", lw=1)
            ax.set_xticks(range(len(thetas)), [f"{t:g}" for t in thetas])
            unit = "logits" if name == "sigma" else "share"
            ax.set_ylabel(f"estimated {name} ({unit})" if column == 0 else "")
        axes[0, column].set_title(f"true sigma = {sigma:g}")
        axes[1, column].set_xlabel("true theta")
    lines = [axes[0, 0].plot([], [], color=COLOURS[method], lw=2)[0] for method in methods]
    fig.legend(lines, methods, loc="outside upper center", ncols=len(methods), frameon=False)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def boxes(ax: plt.Axes, groups: list[pd.Series], place: np.ndarray, width: float, c: str) -> None:
    """Draw one method's boxes."""
    ax.boxplot(
        groups,
        positions=place,
        widths=width,
        boxprops={"color": c},
        medianprops={"color": c, "linewidth": 2},
        whiskerprops={"color": c},
        capprops={"color": c},
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": c},
    )


def write_real(fits: pd.DataFrame, docs: Path) -> None:
    """Write every fit and the counts that the page quotes."""
    fits.round(6).to_csv(docs / "nugget_real.csv", index=False)
    text = []
    for n_isos, part in fits.groupby("n_isos"):
        for title, some in (("", part), (" of 300 reads or more", part[part["reads"] >= INFORMED])):
            wide = some.pivot_table(
                index="gene",
                columns="method",
                values=["sigma", "theta", "gain", "seconds", "correction", "pareto_k"],
            )
            text.append(f"## {n_isos} isoforms, {len(wide)} genes{title}\n\n{real_counts(wide)}")
    page = (
        f"# Integration: the genes of the slide\n\n{provenance(f'{COMMAND} real')}\n"
        + "\n".join(text)
    )
    (docs / "nugget_real.md").write_text(page, encoding="utf-8")


def real_counts(wide: pd.DataFrame) -> str:
    """Say where the fits end, what space gains, and what each method costs."""
    sigma, theta = wide["sigma"], wide["theta"]
    usual = (sigma <= CAP) & (sigma >= 1e-3)
    inside = usual & (theta > AT_ZERO) & (theta < AT_ONE)
    lines = []
    for method in OURS:
        lines.append(
            f"- {method}: theta = 1 {int((usual & (theta > AT_ONE))[method].sum())}, "
            f"theta = 0 {int((usual & (theta < AT_ZERO))[method].sum())}, "
            f"sigma > {CAP:g} {int((sigma[method] > CAP).sum())}, "
            f"sigma = 0 {int((sigma[method] < 1e-3).sum())}, inside {int(inside[method].sum())}, "
            f"gain > 3 nats {int((wide['gain'][method] > 3).sum())}"
        )
        lines += leaders(wide, method)
        size, tail = wide["correction"][method].abs(), wide["pareto_k"][method]
        lines.append(
            f"  - correction: median {size.median():.3f}, 90 % {size.quantile(0.9):.2f}, largest "
            f"{size.max():.2f}; k > 0.7 in {int((tail > 0.7).sum())}"
        )
    seconds = wide["seconds"].sum()
    for method in OURS[1:]:
        from_one = (theta["laplace"] > AT_ONE) & inside[method]
        from_high = (sigma["laplace"] > CAP) & inside[method]
        each = (wide["seconds"][method] / wide["seconds"]["laplace"]).median()
        lines.append(
            f"- from laplace to {method}: theta = 1 to inside {int(from_one.sum())}, "
            f"sigma > {CAP:g} to inside {int(from_high.sum())}; seconds {seconds['laplace']:.1f} "
            f"to {seconds[method]:.1f}, of the median gene {each:.2f} times as much"
        )
    return "\n".join(lines) + "\n"


def leaders(wide: pd.DataFrame, method: str) -> list[str]:
    """Say how the genes known for their spatial usage fare."""
    lines, gain = [], wide["gain"][method]
    ranks = gain.rank(ascending=False, method="first")
    for name in ("Myl6", "Rps24", "Rpl5", "Plp1"):
        if name in wide.index:
            at = wide.loc[name]
            lines.append(
                f"  - {name}: rank {int(ranks[name])}, gain {gain[name]:.1f}, "
                f"sigma {at['sigma', method]:.2f}, theta {at['theta', method]:.3f}, "
                f"correction {at['correction', method]:.2f}, k {at['pareto_k', method]:.2f}"
            )
    return lines
