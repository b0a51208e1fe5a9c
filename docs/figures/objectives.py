"""Draw docs/objectives.png: the joint and the marginal objective of one simulated gene.

python docs/figures/objectives.py    # ten seconds

One gene of 400 spots with four reads each, drawn with sigma = 1 and theta = 0.6. Along each axis
the other variance parameter is held at the truth and ``nu`` and ``bias_eta`` are at their maximum
(joint), or ``bias_eta`` at its truth (marginal: the usage is balanced, it hardly moves). The exact
marginal is the quadrature one plus the correction by importance sampling, with its error.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from splisosm_pyro import MultinomGLMM, simulate_tissue
from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glm.reduced_problem import DesignRows
from splisosm_pyro.fit.search.quasi_newton import Evaluation

SIGMA, THETA = 1.0, 0.6
SIGMAS = np.geomspace(0.1, 4.0, 49)
THETAS = np.linspace(0.001, 0.999, 25)
JOINT, LAPLACE, QUADRATURE, EXACT = "#D55E00", "#56B4E9", "#0072B2", "#000000"
DRAWS = 4000


def gene():
    """Return the tissue with its one gene."""
    return simulate_tissue(
        n_spots=400,
        n_genes=1,
        n_isos=2,
        design="none",
        totals=np.full(400, 4),
        bias_eta=0.0,
        sigma=SIGMA,
        theta=THETA,
        seed=2,
    )


def model_of(tissue, method, nugget="laplace"):
    """Return the unfitted model of the gene."""
    configs = {"nugget": nugget}
    model = MultinomGLMM(var_fix_sigma=True, fitting_method=method, fitting_configs=configs)
    model.setup_data(tissue.counts, corr_sp=tissue.kernel)
    return model


def logit(theta):
    """Return the logit."""
    return np.log(theta) - np.log1p(-theta)


def joint_profile(tissue, points):
    """Return ``max over nu, bias_eta of log_joint`` at each (sigma, theta)."""
    spec = model_of(tissue, "joint_newton").as_arrays().spec
    counts = tissue.counts[0].double().numpy()
    start = fit_glm(counts, DesignRows.from_design(spec.design), names=())
    values = []
    for sigma, theta in points:
        problem = spec.problem(counts)
        objective = spec.objective(problem, start.B, ~start.held, np.array([sigma]))
        at: Evaluation = objective.evaluate(np.array([logit(theta)]))
        values.append(at.value)
    return np.array(values)


def marginal_profile(tissue, points, nugget):
    """Return ``log_marginal`` at each (sigma, theta) and what it lacks, with its standard error.

    The intercept is at its truth: the gene's usage is balanced, and it hardly moves.
    """
    points = np.asarray(points)
    model = model_of(tissue, "marginal_newton", nugget)
    model.setup_data(tissue.counts.expand(len(points), -1, -1), corr_sp=tissue.kernel)
    model.update_params_from_dict({"sigma": points[:, :1], "theta_logit": logit(points[:, 1:])})
    lacking = model.log_marginal_error(draws=DRAWS) if nugget == "quadrature" else None
    return model.log_marginal().detach().numpy(), lacking


def draw(figure, tissue):
    """Fill the four panels; return the figure."""
    axes = figure.subplots(2, 2, sharex="col")
    for column, (name, grid) in enumerate((("sigma (logits)", SIGMAS), ("theta", THETAS))):
        points = [(s, THETA) for s in SIGMAS] if column == 0 else [(SIGMA, t) for t in THETAS]
        top, bottom = axes[:, column]
        joint = joint_profile(tissue, points)
        top.plot(grid, joint - joint.max(), color=JOINT, label="joint")
        laplace, _ = marginal_profile(tissue, points, "laplace")
        quadrature, lacking = marginal_profile(tissue, points, "quadrature")
        exact = quadrature + lacking["correction"].to_numpy()
        highest = exact.max()
        bottom.plot(grid, laplace - highest, color=LAPLACE, linestyle="--", label="laplace")
        bottom.plot(grid, quadrature - highest, color=QUADRATURE, label="quadrature")
        bottom.errorbar(
            grid,
            exact - highest,
            2 * lacking["standard_error"],
            color=EXACT,
            marker=".",
            linestyle="none",
            label="exact, +- 2 SE",
        )
        bottom.set(xlabel=name, ylim=(-12, 3))
        for ax in (top, bottom):
            ax.axvline(SIGMA if column == 0 else THETA, color="0.5", linestyle=":", label="truth")
    axes[0, 0].set(xscale="log", ylabel="log_joint, below\nits maximum (nats)")
    axes[0, 0].set_xticks([0.1, 0.3, 1, 3], ["0.1", "0.3", "1", "3"])
    axes[1, 0].set_ylabel("log_marginal, below\nthe exact maximum (nats)")
    axes[0, 0].legend(frameon=False)
    axes[1, 0].legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def main():
    """Write the figure beside the pages."""
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = draw(Figure(figsize=(8, 5), layout="constrained"), gene())
    figure.savefig(Path(__file__).parents[1] / "objectives.png", dpi=150)


if __name__ == "__main__":
    main()
