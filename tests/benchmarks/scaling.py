"""Rows about one large gene: the factorisation, the selected inverse, the growth, the memory."""

from functools import partial

import numpy as np
from programs import MARGINAL, certificates, glmm
from rows import Row
from scipy.sparse import block_diag, csc_array, eye_array, kron
from scipy.sparse.linalg import splu
from slides import Scale, Slide, grid
from timing import interleaved, median_time, peak_memory, tally, timed

from splisosm_pyro import CARKernel, LowRankKernel
from splisosm_pyro.fit.marginal.latent_problem import GeneData, LatentProblem
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.spot.laplace import LaplaceNugget

LOGITS = 2
# Information of a spot with some five reads, away from the corners.
INFORMATION = np.array([[1.0, -0.3], [-0.3, 1.0]])


def one_gene(scale: Scale) -> Row:
    """One gene's whole fit in units of a factorisation of its matrix."""
    side = 10 if scale.quick else 71
    slide = grid((side, side), 1, depth=5.0)
    problem, information = _problem(slide)
    own = median_time(lambda: problem.system.factorise(information), 9)
    matrix = _matrix(slide)
    superlu = median_time(lambda: _superlu(matrix), 9)
    glmm(slide, MARGINAL)  # warms up
    with tally() as count:
        (fits,) = interleaved([lambda: glmm(slide, MARGINAL)], [1 if scale.quick else 7])
    rounds = len(fits.seconds)
    return Row(
        work=f"marginal fit, one gene, {side**2} x 3; other: one SuperLU factorisation",
        ours=fits.median,
        other=superlu,
        ratio=f"{fits.median / superlu:.1f} SuperLU, {fits.median / own:.1f} of our own",
        objective=float(fits.last.forward().detach().sum()),
        memory=peak_memory(),
        note=(
            f"{count.factorisations / rounds:.0f} factorisations; one of our own takes "
            f"{1e3 * own:.1f} ms; {certificates(fits.last)}"
        ),
    )


def growth(scale: Scale) -> Row:
    """One gene's fit on ever larger grids, the largest of 102,400 spots."""
    sides = (6, 8, 10, 12) if scale.quick else (50, 100, 200, 320)
    glmm(grid((sides[0], sides[0]), 1, depth=5.0), MARGINAL)  # warms up
    seconds, counts = [], []
    for side in sides:
        slide = grid((side, side), 1, depth=5.0)
        with tally() as count:
            repeats = 3 if side <= 100 else 1
            (fits,) = interleaved([partial(glmm, slide, MARGINAL)], [repeats])
        seconds.append(fits.median)
        counts.append(count.factorisations // repeats)
        model = fits.last
    exponent = np.polyfit(np.log(np.square(sides)), np.log(seconds), 1)[0]
    listed = ", ".join(f"{s**2:,}: {t:.3g} s" for s, t in zip(sides, seconds, strict=True))
    return Row(
        work=f"marginal fit, one gene, {sides[-1] ** 2:,} x 3",
        ours=seconds[-1],
        ratio=f"spots^{exponent:.2f}",
        objective=float(model.forward().detach().sum()),
        memory=peak_memory(),
        note=f"{listed}; factorisations {counts}; {certificates(model)}",
    )


def selected_inverse(scale: Scale) -> Row:
    """Compare the time of the selected inverse with that of the factorisation."""
    side = 10 if scale.quick else 320
    problem, information = _problem(grid((side, side), 1, depth=5.0))
    factorising, inverting = [], []
    for _ in range(3 if scale.quick else 6):
        took, factor = timed(lambda: problem.system.factorise(information))
        factorising.append(took)
        inverting.append(timed(factor.blocks)[0])
    factor_time, inverse_time = float(np.median(factorising)), float(np.median(inverting))
    return Row(
        work=f"selected inverse, {side**2:,} x {LOGITS} logits; other: our factorisation",
        ours=inverse_time,
        other=factor_time,
        ratio=f"{inverse_time / factor_time:.2f} factorisations",
        memory=peak_memory(),
    )


def low_rank(scale: Scale) -> Row:
    """Low-rank fits, and how far their optima are from the exact ones."""
    side, genes, rank = (8, 2, 20) if scale.quick else (71, 20, 100)
    whole = grid((side, side), genes, depth=5.0)
    kernel = whole.kernel
    assert isinstance(kernel, CARKernel)
    eigen, pairs = timed(lambda: kernel.eigenpairs(rank))
    part = Slide(whole.counts, LowRankKernel(*pairs))
    glmm(part.part(1), MARGINAL), glmm(whole.part(1), MARGINAL)  # warms up
    short, exact = interleaved(
        [lambda: glmm(part, MARGINAL), lambda: glmm(whole, MARGINAL)], [1] * 2
    )
    memory = peak_memory()
    value, best = short.last.forward().detach(), exact.last.forward().detach()
    there = exact.last.clone()
    there.update_params_from_dict(dict(short.last.named_parameters()))
    lost = (best - there.forward().detach()).numpy()
    gap = (best - value).numpy()
    return Row(
        work=f"low-rank fit, {genes} x {side**2} x 3, rank {rank}; other: our exact fit",
        ours=short.median,
        other=exact.median,
        ratio=f"{exact.median / short.median:.2f} times faster",
        objective=float(value.sum()),
        objective_other=float(best.sum()),
        least=float(-gap.max()),
        memory=memory,
        note=(
            f"gap a gene {np.median(gap):.3g} nats (median), {gap.max():.3g} (most); exact "
            f"objective lost at the low-rank end {np.median(lost):.3g} (median), {lost.max():.3g} "
            f"(most); {eigen:.2g} s for the eigenpairs; {certificates(short.last)}"
        ),
    )


def _problem(slide: Slide) -> tuple[LatentProblem, FloatArray]:
    """Return the latent problem of the first gene, factorised once, and blocks of information."""
    counts = slide.counts[0].numpy()
    gene = GeneData.from_arrays(counts, np.zeros((len(counts), 0)))
    problem = LatentProblem(gene, slide.kernel, LaplaceNugget(gene.counts))
    information = np.tile(INFORMATION, (len(gene.counts), 1, 1))
    problem.system.factorise(information).blocks()
    return problem, information


def _matrix(slide: Slide) -> csc_array:
    """Return the matrix of the first gene, spot-major, without coupling of the logits by K."""
    kernel = slide.kernel
    assert isinstance(kernel, CARKernel)
    occupied = (slide.counts[0].sum(dim=1) > 0).numpy()
    blocks = block_diag([INFORMATION * seen for seen in occupied], format="csc")
    return csc_array(kron(kernel.precision, eye_array(LOGITS), format="csc") + blocks)


def _superlu(matrix: csc_array) -> object:
    """Factorise by SciPy's SuperLU in its symmetric mode."""
    return splu(
        matrix,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
