"""The tables and the figure of ``nugget_study.py``."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

CAP = 5.0  # larger sigmas count as this much
INFORMED = 300  # reads of a gene that has something to say about its variances
AT_ONE, AT_ZERO = 1 - 1e-4, 1e-4
COLOURS = {"laplace": "tab:orange", "quadrature": "tab:blue"}


def summary(fits: pd.DataFrame) -> pd.DataFrame:
    """Bias and root mean square error of both parameters, and where fits end, by cell."""

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
                "theta_rmse": np.sqrt((off_theta**2).mean()),
                "at_theta_1": (theta > AT_ONE).mean(),
                "sigma_above_5": (cell["sigma"] > CAP).mean(),
                "sigma_0": (cell["sigma"] < 1e-3).mean(),
                "milliseconds": 1e3 * cell["seconds"].median(),
            }
        )

    keys = ["true_sigma", "true_theta", "method"]
    return fits.groupby(keys)[[c for c in fits.columns if c != "method"]].apply(of_cell)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, index as columns, two decimals."""
    flat = table.reset_index()
    lines = ["| " + " | ".join(map(str, flat.columns)) + " |", "|" + "---|" * flat.shape[1]]
    for row in flat.itertuples(index=False):
        cells = [f"{x:.2f}" if isinstance(x, float) else str(x) for x in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_simulation(fits: pd.DataFrame, docs: Path) -> None:
    """Write every fit, both summaries and the figure."""
    fits.round(6).to_csv(docs / "nugget_simulation.csv", index=False)
    informed = fits[fits["reads"] >= INFORMED]
    text = "# Tables of the nugget study\n\n"
    text += f"Genes of {INFORMED} reads or more:\n\n{markdown(summary(informed))}\n"
    text += f"All genes:\n\n{markdown(summary(fits))}"
    (docs / "nugget_tables.md").write_text(text, encoding="utf-8")
    figure(informed, docs / "nugget.png")


def figure(fits: pd.DataFrame, path: Path) -> None:
    """Boxes of the estimates by truth, the truth as a line."""
    sigmas, thetas = (sorted(fits[name].unique()) for name in ("true_sigma", "true_theta"))
    fig, axes = plt.subplots(2, len(sigmas), figsize=(9, 5), sharex=True, layout="constrained")
    for column, sigma in enumerate(sigmas):
        for row, name in enumerate(("sigma", "theta")):
            ax = axes[row, column]
            for shift, (method, colour) in zip((-0.2, 0.2), COLOURS.items(), strict=True):
                part = fits[(fits["true_sigma"] == sigma) & (fits["method"] == method)]
                groups = [part[part["true_theta"] == t][name].clip(upper=CAP) for t in thetas]
                ax.boxplot(
                    groups,
                    positions=np.arange(len(thetas)) + shift,
                    widths=0.32,
                    boxprops={"color": colour},
                    medianprops={"color": colour, "linewidth": 2},
                    whiskerprops={"color": colour},
                    capprops={"color": colour},
                    flierprops={"marker": ".", "markersize": 3, "markeredgecolor": colour},
                )
            for i, theta in enumerate(thetas):
                ax.hlines(sigma if name == "sigma" else theta, i - 0.45, i + 0.45, "k", lw=1)
            ax.set_xticks(range(len(thetas)), [f"{t:g}" for t in thetas])
            ax.set_ylabel(f"estimated {name}" if column == 0 else "")
        axes[0, column].set_title(f"true sigma = {sigma:g}")
        axes[1, column].set_xlabel("true theta")
    for method, colour in COLOURS.items():
        axes[0, 0].plot([], [], color=colour, label=method)
    axes[0, 0].legend(frameon=False, fontsize=8)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def write_real(fits: pd.DataFrame, docs: Path) -> None:
    """Write every fit and the counts that the page quotes."""
    fits.round(6).to_csv(docs / "nugget_real.csv", index=False)
    text = []
    for n_isos, part in fits.groupby("n_isos"):
        wide = part.pivot_table(
            index="gene",
            columns="method",
            values=["sigma", "theta", "gain", "seconds", "correction", "pareto_k"],
        )
        text.append(f"{n_isos} isoforms, {len(wide)} genes\n" + real_counts(wide))
    (docs / "nugget_real.md").write_text("\n".join(text), encoding="utf-8")


def real_counts(wide: pd.DataFrame) -> str:
    """Say where the fits end, what space gains, and what both cost."""
    sigma, theta, gain = wide["sigma"], wide["theta"], wide["gain"]
    usual = (sigma <= CAP) & (sigma >= 1e-3)
    inside = usual & (theta > AT_ZERO) & (theta < AT_ONE)
    lines = []
    for method in COLOURS:
        lines.append(
            f"{method}: theta = 1 {int((usual & (theta > AT_ONE))[method].sum())}, "
            f"theta = 0 {int((usual & (theta < AT_ZERO))[method].sum())}, "
            f"sigma > {CAP:g} {int((sigma[method] > CAP).sum())}, "
            f"sigma = 0 {int((sigma[method] < 1e-3).sum())}, inside {int(inside[method].sum())}, "
            f"gain > 3 nats {int((gain[method] > 3).sum())}"
        )
        ranks = gain[method].rank(ascending=False, method="first")
        for name in ("Myl6", "Rps24", "Rpl5", "Plp1"):
            if name in wide.index:
                at = wide.loc[name]
                lines.append(
                    f"  {name}: rank {int(ranks[name])}, gain {gain.loc[name, method]:.1f}, "
                    f"sigma {at['sigma', method]:.2f}, theta {at['theta', method]:.3f}, "
                    f"correction {at['correction', method]:.2f}, k {at['pareto_k', method]:.2f}"
                )
        size = wide["correction"][method].abs()
        tail = wide["pareto_k"][method]
        lines.append(
            f"  correction: median {size.median():.3f}, 90 % {size.quantile(0.9):.2f}, largest "
            f"{size.max():.2f}; k > 0.7 in {int((tail > 0.7).sum())}"
        )
    from_one = (theta["laplace"] > AT_ONE) & inside["quadrature"]
    from_high = (sigma["laplace"] > CAP) & inside["quadrature"]
    lines.append(f"theta = 1 to inside: {int(from_one.sum())}")
    lines.append(f"sigma > {CAP:g} to inside: {int(from_high.sum())}")
    seconds = wide["seconds"].sum()
    each = (wide["seconds"]["quadrature"] / wide["seconds"]["laplace"]).median()
    lines.append(
        f"seconds: laplace {seconds['laplace']:.1f}, quadrature {seconds['quadrature']:.1f}, "
        f"ratio {seconds['quadrature'] / seconds['laplace']:.2f}, of the median gene {each:.2f}"
    )
    return "\n".join(lines) + "\n"
