"""Rows in which two programs do the same work."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from programs import (
    HAVE_OTHER,
    JOINT,
    MARGINAL,
    Options,
    Other,
    certificates,
    glm,
    glmm,
    objective_at,
)
from slides import Scale, Slide, grid, real, real_file
from timing import interleaved, peak_memory, tally, timed

from splisosm_pyro import DenseKernel, MultinomGLM
from splisosm_pyro.fit.accelerator.lockstep_fit import fit_together
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.result import GeneFit
from splisosm_pyro.maths.covariance.kernel import Kernel

ALL_GENES, FEW_GENES = 643, 4  # of the real slide, the latter for --quick
CHUNK = 20  # genes that a worker fetches at once
Numbers = dict[str, float]
FEW_EPOCHS: Options = {"fitting_configs": {"max_epochs": 20}}  # of the other, for --quick


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; what was not measured is None.

    ``ours`` and ``other`` are seconds, ``objective`` sums over genes in nats, ``least`` is ours
    minus the other's at the gene where that is smallest, ``memory`` is in GB. ``figures`` holds
    further numbers by name.
    """

    work: str
    ours: float | None = None
    other: float | None = None
    ratio: str = ""
    objective: float | None = None
    objective_other: float | None = None
    least: float | None = None
    memory: float | None = None
    note: str = ""


def skipped(work: str, why: str) -> Row:
    """Return the row of work that cannot be done here."""
    return Row(work=work, note=f"not run: {why}")


def compare(
    work: str,
    ours: Callable[[], MultinomGLM],
    other: Callable[[], Callable[[], Any]],
    repeats: tuple[int, int],
    note: Callable[[MultinomGLM], str] = certificates,
) -> Row:
    """Run ours once without the clock, for its memory, then both in turn.

    ``other`` prepares the other program and returns its call. ``repeats`` is of ours and theirs.
    """
    ours()
    memory = peak_memory()
    if not HAVE_OTHER:
        (mine,) = interleaved([ours], [repeats[0]])
        at = mine.last
        value = at.forward().detach()
        return Row(
            work=work, ours=mine.median, objective=float(value.sum()), memory=memory, note=note(at)
        )
    mine, theirs = interleaved([ours, other()], list(repeats))
    value, value_other = mine.last.forward().detach(), objective_at(mine.last, theirs.last)
    return Row(
        work=work,
        ours=mine.median,
        other=theirs.median,
        ratio=f"{theirs.median / mine.median:.1f} times faster",
        objective=float(value.sum()),
        objective_other=float(value_other.sum()),
        least=float((value - value_other).min()),
        memory=memory,
        note=f"{note(mine.last)}; theirs: {theirs.last.logger.epoch} epochs",
    )


def compare_glmm(
    work: str,
    slide: Slide,
    ours: Options,
    theirs: Options,
    repeats: tuple[int, int],
    note: Callable[[MultinomGLM], str] = certificates,
) -> Row:
    """Compare GLMM fits."""

    def prepare() -> Callable[[], Any]:
        other = Other(slide, spatial=True)
        return lambda: other.glmm(theirs)

    return compare(work, lambda: glmm(slide, ours), prepare, repeats, note)


def compare_glm(work: str, slide: Slide, repeats: tuple[int, int]) -> Row:
    """Compare GLM fits by iwls."""

    def prepare() -> Callable[[], Any]:
        return Other(slide, spatial=False).glm

    return compare(work, lambda: glm(slide), prepare, repeats)


# ---- the rows


def marginal(scale: Scale) -> Row:
    """Marginal fits of small genes."""
    side, genes = (6, 2) if scale.quick else (15, scale.at_most(20))
    slide = grid((side, side), genes, depth=5.0)
    theirs = MARGINAL | FEW_EPOCHS if scale.quick else MARGINAL
    work = f"marginal fit, {genes} x {side**2} x 3, 5 counts a spot; other: marginal_newton"
    return compare_glmm(work, slide, MARGINAL, theirs, (2, 1) if scale.quick else (3, 1))


def marginal_real(scale: Scale) -> Row:
    """Marginal fits of the real genes, against the other's default, which is a joint fit."""
    slide, size = _real_slide(FEW_GENES if scale.quick else scale.genes)
    work = f"marginal fit, {size}; other: its default joint_gd"
    if slide is None:
        return skipped(work, "no file of real data")
    theirs = FEW_EPOCHS if scale.quick else {}
    return compare_glmm(
        work, slide, MARGINAL, theirs, (1, 1) if scale.quick else (2, 1), _all_certified
    )


def joint(scale: Scale) -> Row:
    """Joint fits at fixed sigma, whose distance from the optimum is measured."""
    side, genes = (8, 3) if scale.quick else (30, 20)
    slide = grid((side, side), genes, depth=5.0)
    work = f"joint fit, fixed sigma, {genes} x {side**2} x 3; other: joint_gd"

    def short_of_optimum(model: MultinomGLM) -> str:
        exact = glmm(slide, {**JOINT, "fitting_method": "joint_newton"})
        lack = (exact.forward() - model.forward()).detach().max()
        return f"{certificates(model)}; at most {float(lack):.1g} nats below joint_newton's end"

    theirs = JOINT | FEW_EPOCHS if scale.quick else JOINT
    return compare_glmm(
        work, slide, JOINT, theirs, (2, 1) if scale.quick else (3, 2), short_of_optimum
    )


def glm_grid(scale: Scale) -> Row:
    """GLM of simulated genes."""
    sides, genes = ((10, 10), 10) if scale.quick else ((50, 60), 200)
    slide = grid(sides, genes, depth=2.0, covariates=2)
    work = f"GLM, {genes} x {sides[0] * sides[1]} x 3, 2 covariates, 2 counts a spot; other: iwls"
    return compare_glm(work, slide, (3, 3) if scale.quick else (7, 7))


def glm_real(scale: Scale) -> Row:
    """GLM of the real genes with their regions."""
    slide, size = _real_slide(FEW_GENES if scale.quick else ALL_GENES)
    work = f"GLM, {size}, 5 regions (4 contrasts and the intercept); other: iwls"
    if slide is None:
        return skipped(work, "no file of real data")
    return compare_glm(work, slide, (3, 3) if scale.quick else (7, 7))


def nugget_two(scale: Scale) -> Row:
    """Cost of integrating the nugget out, real genes of two isoforms."""
    return _nugget_cost(scale, "counts")


def smooth_two(scale: Scale) -> Row:
    """Cost of expectation propagation in the smooth part as well, the same genes."""
    return _nugget_cost(scale, "counts", smooth="ep")


def smooth_three(scale: Scale) -> Row:
    """Cost of expectation propagation, the same genes of three isoforms."""
    return _nugget_cost(scale, "counts_3", smooth="ep")


def nugget_three(scale: Scale) -> Row:
    """Cost of integrating the nugget out, real genes of three isoforms."""
    return _nugget_cost(scale, "counts_3")


def _nugget_cost(scale: Scale, counts: str, smooth: str = "laplace") -> Row:
    """Compare fits with the nugget integrated out with those where it is at its mode."""
    slide, size = _real_slide(FEW_GENES if scale.quick else ALL_GENES, counts)
    how = "nugget integrated" + (", smooth part by EP" if smooth == "ep" else "")
    work = f"marginal fit, {size}, {how}; other: nugget at its mode"
    if slide is None:
        return skipped(work, "no file of real data")
    exact = MARGINAL | {"fitting_configs": {"nugget": "quadrature", "smooth": smooth}}
    kinds = [(slide.part(2), MARGINAL), (slide.part(2), exact), (slide, MARGINAL), (slide, exact)]
    seconds, factorisations = [], []
    for part, options in kinds:  # the first two warm up
        with tally() as count:
            took, model = timed(partial(glmm, part, options))
        seconds.append(took)
        factorisations.append(count.factorisations)
    genes = len(slide.counts)
    by_mode, ours = seconds[2:]
    return Row(
        work=work,
        ours=ours,
        other=by_mode,
        ratio=f"{ours / by_mode:.2f} times as long",
        objective=float(model.forward().detach().sum()),
        memory=peak_memory(),
        note=(
            f"{1e3 * ours / genes:.1f} and {1e3 * by_mode / genes:.1f} ms a gene; "
            f"{factorisations[3] / genes:.1f} and {factorisations[2] / genes:.1f} "
            f"factorisations; {certificates(model)}"
        ),
    )


def accelerator(scale: Scale) -> Row:
    """Fits with a dense kernel, many genes at once on a device, against one by one on a core.

    On a device ours is by the clock; the other is in processor seconds of a few genes, scaled.
    """
    there = torch.cuda.is_available()
    side, genes = (30, 512) if there else (15, 16)
    if scale.quick:
        side, genes = 6, 3
    device = torch.device("cuda" if there else "cpu")
    slide = grid((side, side), genes, depth=5.0)
    kernel = DenseKernel(slide.kernel.dense())
    fit = _one_gene(Slide(slide.counts, kernel))
    occupied = (slide.counts.sum(dim=2) > 0).sum(dim=1).tolist()
    fit(0, kernel)  # warms up
    clock = time.perf_counter if there else time.process_time
    began = clock()
    fits = fit_together(fit, kernel, occupied, 2, device)
    elapsed = clock() - began
    few = min(genes, 4 if there else 16)
    alone = [timed(partial(fit, gene, kernel)) for gene in range(few)]
    other = sum(seconds for seconds, _ in alone) * genes / few
    gains = [ours.value - one.value for ours, (_, one) in zip(fits[:few], alone, strict=True)]
    name = torch.cuda.get_device_name() if there else "no accelerator: torch on the CPU"
    kinds = Counter(str(one.status) for one in fits)
    return Row(
        work=f"marginal fit, {genes} x {side**2} x 3, dense kernel, batched; other: one by one",
        ours=elapsed,
        other=other,
        ratio=f"{other / elapsed:.2f} times faster",
        objective=sum(one.value for one in fits),
        least=min(gains),
        memory=peak_memory(),
        note=f"{name}; {', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}",
    )


def _one_gene(slide: Slide) -> Callable[[int, Kernel], GeneFit]:
    """Return what fits one gene of a slide with the kernel that it is given."""
    model = glmm(slide, MARGINAL, fit=False)
    spec, counts = model.as_arrays().spec, slide.counts.numpy()

    def fit(gene: int, kernel: Kernel) -> GeneFit:
        own = replace(spec, kernel=kernel)
        return fit_gene(own, counts[gene], model.as_arrays().params_of(gene))

    return fit


def two_cores(scale: Scale) -> Row:
    """Marginal fits of the real genes by two processes of one thread."""
    slide, size = _real_slide(FEW_GENES if scale.quick else ALL_GENES)
    work = f"marginal fit, {size}, two processes"
    if slide is None:
        return skipped(work, "no file of real data")
    genes = len(slide.counts)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(_fit_chunk, [(0, 1)] * 4))  # both have started, read the file and warmed up
        chunks = [(at, min(at + CHUNK, genes)) for at in range(0, genes, CHUNK)]
        began = time.perf_counter()
        done = list(pool.map(_fit_chunk, chunks))
        elapsed = time.perf_counter() - began
    seconds = sum(part["seconds"] for part in done)
    factorisations = sum(part["factorisations"] for part in done)
    return Row(
        work=work,
        ours=seconds / 2.0,
        ratio=f"{1e3 * seconds / genes:.1f} ms a gene",
        objective=sum(part["objective"] for part in done),
        memory=max(part["memory"] for part in done),
        note=(
            f"half of the processor seconds of both; {elapsed:.1f} s passed by the clock; "
            f"{factorisations / genes:.1f} factorisations a gene; memory of one process"
        ),
    )


def _fit_chunk(part: tuple[int, int]) -> Numbers:
    """Fit some real genes in a worker."""
    torch.set_num_threads(1)
    path = real_file()
    if path is None:
        raise FileNotFoundError("the file of real data has gone")
    slide = real(path)
    chosen = Slide(slide.counts[part[0] : part[1]], slide.kernel)
    with tally() as count:
        seconds, model = timed(lambda: glmm(chosen, MARGINAL))
    if model.logger is None:
        raise RuntimeError("the fit left no log")
    return {
        "seconds": seconds,
        "objective": -float(model.logger.best_loss.sum()),
        "factorisations": count.factorisations,
        "memory": peak_memory(),
    }


def _real_slide(most: int, counts: str = "counts") -> tuple[Slide | None, str]:
    """Return at most so many genes of the real slide, and its size in words."""
    path = real_file()
    if path is None:
        return None, "real genes"
    slide = real(path, counts).part(most)
    genes, spots, isoforms = slide.counts.shape
    return slide, f"{genes} real genes x {spots} x {isoforms}"


def _all_certified(model: MultinomGLM) -> str:
    """Say whether every gene has a certificate: a known end and a small gradient."""
    table = model.diagnose()
    norm, curvature = table["gradient_norm"].max(), table["min_eigenvalue"].min()
    return (
        f"{certificates(model)}; largest gradient norm {norm:.1g}, "
        f"smallest curvature {curvature:.1g}"
    )
