"""Many genes: the same numbers whatever the workers, batches and order; nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_array

from splisosm_pyro import MultinomGLM, MultinomGLMM, fit_genes
from splisosm_pyro.fit.accelerator.memory import available_bytes
from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.fit.glm.standard_design import StandardDesign
from splisosm_pyro.genes.batches import batches
from splisosm_pyro.genes.data.slide import GeneGroup
from splisosm_pyro.genes.job import Job, RunOptions
from splisosm_pyro.genes.run import workers
from splisosm_pyro.genes.run.fit_genes import fit_slide
from splisosm_pyro.genes.run.records import NAME, Records
from splisosm_pyro.hypotheses.many import false_discovery_rates
from splisosm_pyro.hypotheses.spatial import spatial_score_test
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.spot.usage import usage_given_counts

ROOT = Path(__file__).resolve().parents[3]
GLM = RunOptions(model="glm")


def numbers(fits, by="gene"):
    """The table without what may differ from run to run."""
    return fits.table.drop(columns="seconds").sort_values(by, ignore_index=True)


def alone(table):
    """What does not depend on which other genes there are, nor on the time."""
    return table.drop(columns="seconds").filter(regex=r"^(?!(sv|du_.+)_q$)")


def same(one, other):
    pd.testing.assert_frame_equal(numbers(one), numbers(other), check_exact=True)
    pd.testing.assert_frame_equal(
        one.isoforms.sort_values("isoform", ignore_index=True),
        other.isoforms.sort_values("isoform", ignore_index=True),
        check_exact=True,
    )


@pytest.fixture(scope="module")
def fits(slide):
    return fit_slide(slide, progress=False)


@pytest.fixture
def bare(slide):
    """The slide without covariates, quick to fit."""
    return replace(slide, covariates=())


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["ep", "ep", "laplace"]),
        ({"smooth": "ep"}, ["ep", "ep", "ep"]),
        ({"smooth": "laplace"}, ["laplace"] * 3),
        ({"nugget": "laplace"}, ["laplace"] * 3),
        ({"fitting_configs": {"nugget": "laplace"}}, ["laplace"] * 3),
    ],
)
def test_the_table_says_how_the_smooth_part_was_integrated(asked, found):
    """By expectation propagation up to three isoforms, unless something else is asked for."""
    rng = np.random.default_rng(0)
    counts = [rng.poisson(0.6, (25, n_isos)).astype(float) for n_isos in (2, 3, 4)]
    places = rng.normal(size=(25, 2))
    fits = fit_genes(counts, coords=places, progress=False, **asked)
    assert fits.table["smooth"].tolist() == found
    for place, row in fits.table.iterrows():
        model = fits.model(place)
        assert model.log_marginal().item() == pytest.approx(row["log_marginal"], abs=1e-6)


def test_numbers_are_those_of_the_models(fits, slide):
    row = fits.table.iloc[3]
    assert row["gene"] == "d"
    counts = slide.groups[1].counts[1].astype(float)
    kernel = Job.of(slide, RunOptions()).prepared().kernel
    glm = MultinomGLM()
    glm.setup_data(counts, slide.design)
    glm.fit(quiet=True)
    glmm = MultinomGLMM(
        var_fix_sigma=False,
        var_prior_model="half_normal",
        fitting_method="marginal_newton",
        fitting_configs={"smooth": "ep"},
        coding="symmetric",
    )
    glmm.setup_data(counts, kernel, slide.design)
    glmm.fit(quiet=True)
    assert row["loglik_glm"] == pytest.approx(glm.forward().item(), rel=1e-12)
    assert row["log_marginal"] == pytest.approx(glmm.forward().item(), rel=1e-9)
    assert row["beta_age_1"] == pytest.approx(glmm.beta[0, 1, 1].item(), rel=1e-4)
    errors = glmm.standard_errors()
    assert row["beta_age_1_se"] == pytest.approx(errors["beta"][0, 1, 1].item(), rel=1e-3)
    assert row["log_sigma_se"] == pytest.approx(errors["log_sigma"].item(), rel=1e-3)
    # where sigma is 0 the objective is the GLM's with the prior's density there
    density = 0.5 * np.log(2.0 / np.pi)
    gain = row["log_marginal"] - row["loglik_glm"] - density
    assert row["gain_over_glm"] == pytest.approx(gain, abs=1e-9)
    assert row["gain_over_white"] == row["log_marginal"] - row["log_marginal_white"]
    # the models are nested
    assert (fits.table["gain_over_white"] >= -1e-7).all()
    assert (fits.table["log_marginal_white"] >= fits.table["loglik_glm"] + density - 1e-4).all()
    usage = glmm.get_isoform_ratio("posterior_mean")[0].numpy()
    own = fits.isoforms[fits.isoforms["gene"] == "d"]
    np.testing.assert_allclose(own["mean_usage"], usage.mean(0), rtol=1e-4)
    np.testing.assert_allclose(own["max_usage"], usage.max(0), rtol=1e-4)


def test_batches_hold_every_gene_once_and_end_small():
    genes = range(700)
    for size, n_workers in (("auto", 1), ("auto", 2), ("auto", 64), (7, 3), (1000, 1)):
        cut = list(batches(genes, size, n_workers))
        assert [gene for batch in cut for gene in batch] == list(genes)
    sizes = [len(batch) for batch in batches(genes, "auto", 2)]
    assert sizes[0] == 16
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_any_number_of_workers_and_batch_size(bare, n_jobs):
    options = RunOptions(seed=4)
    one = fit_slide(bare, options, progress=False, batch_size=4)
    same(one, fit_slide(bare, options, progress=False, n_jobs=n_jobs, batch_size=1))
    assert one.table["seed"].nunique() == 6


def test_every_gene_is_tested_for_space_and_for_each_covariate(fits, slide):
    table = fits.table
    assert (table["sv_reason"] == "").all()
    names = ["sv", *(f"du_{one.name}" for one in slide.covariates)]
    for name in names:
        p, q = (table[f"{name}_{letter}"].to_numpy() for letter in "pq")
        assert ((p >= 0.0) & (p <= 1.0)).all()
        np.testing.assert_array_equal(q, false_discovery_rates(p))
    kernel, design = fits.kernel, StandardDesign.of(slide.design.to_numpy())
    test = spatial_score_test(fits.counts(0).astype(float), design, kernel)
    assert (table["sv_p"][0], table["sv_stat"][0]) == (test.p, test.statistic)


def test_any_order_and_any_company(fits, slide):
    two, three = slide.groups
    turned = slide.with_groups([three.take(np.array([3, 1, 0])), two.take(np.array([1]))])
    other = fit_slide(turned, progress=False, batch_size=3)
    kept = fits.table["gene"].isin(other.table["gene"])
    pd.testing.assert_frame_equal(
        alone(other.table).sort_values("gene", ignore_index=True),
        alone(fits.table[kept]).sort_values("gene", ignore_index=True),
        check_exact=True,
    )


def test_the_change_of_usage_is_that_of_a_spot_at_random(fits, slide):
    """Level against level: usage averaged over the random effect, and over the tissue's ages."""
    row = fits.table.set_index("gene").loc["a"]
    low = row["bias_eta_0"] + row["beta_age_0"] * slide.design["age"].to_numpy()
    field, none = np.full((len(low), 1, 1), row["sigma"] ** 2), np.zeros((len(low), 2))
    usage = [
        usage_given_counts(none, eta[:, None], field).mean[:, 0].mean()
        for eta in (low, low + row["beta_region=layer 2_0"])
    ]
    own = fits.isoforms.set_index("isoform").loc["a0"]
    assert own["delta_region=layer 2"] == pytest.approx(usage[1] - usage[0], abs=1e-3)
    assert own["delta_region=layer 2_low"] < own["delta_region=layer 2"]
    assert own["delta_region=layer 2"] < own["delta_region=layer 2_high"]
    effect = fits.effects.query("isoform == 'a0' and level == 'layer 2'").iloc[0]
    assert effect["change"] == own["delta_region=layer 2"]
    assert effect["reference"] == "layer 1"


def test_the_interval_of_a_change_of_usage_is_that_of_a_binomial(tissue):
    """Two groups of spots, two isoforms: the difference of two proportions."""
    rng = np.random.default_rng(5)
    side = np.repeat([0.0, 1.0], 30)
    total = rng.integers(1, 9, 60)
    first = rng.binomial(total, 0.3 + 0.3 * side)
    counts = np.stack([first, total - first], axis=1)[None]
    frame = pd.DataFrame({"side": np.where(side > 0, "r", "l")})
    result = fit_genes(
        counts, coords=rng.random((60, 2)), covariates=frame, model="glm", progress=False
    )
    n = [total[side == v].sum() for v in (0, 1)]
    p = [first[side == v].sum() / n[v] for v in (0, 1)]
    error = np.sqrt(sum(p[v] * (1 - p[v]) / n[v] for v in (0, 1)))
    assert result.table["reason"].tolist() == [""]
    row = result.isoforms.iloc[0]
    assert row["delta_side=r"] == pytest.approx(p[1] - p[0], rel=1e-6)
    low, high = row["delta_side=r_low"], row["delta_side=r_high"]
    assert low < row["delta_side=r"] < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.03)


def test_what_counts_do_not_determine_is_blank_with_its_reason():
    """The reference level has no read: the others are known against each other alone."""
    rng = np.random.default_rng(1)
    level = np.repeat(["A", "B", "C"], 20)
    total = np.where(level == "A", 0, rng.integers(1, 9, 60))
    first = rng.binomial(total, np.where(level == "B", 0.7, 0.3))
    counts = np.stack([first, total - first], axis=1)[None]
    found = [
        fit_genes(
            counts,
            coords=rng.random((60, 2)),
            covariates=pd.DataFrame({"c": level}),
            reference={"c": reference},
            contrasts="pairwise",
            model="glm",
            progress=False,
        )
        for reference in "AC"
    ]
    assert [fits.table["status"][0] for fits in found] == ["converged"] * 2, found[0].table[
        "reason"
    ][0]
    found = [fits.effects.query("number == 0") for fits in found]
    for effects in found:
        known = (effects["level"] != "A") & (effects["reference"] != "A")
        assert known.tolist().count(True) == 1
        assert effects.loc[known, ["change", "low", "high"]].notna().all(axis=None)
        assert (effects.loc[known, "reason"] == "").all()
        unknown = effects[~known]
        assert unknown["change"].isna().all()
        assert (unknown["low"] == -1.0).all()
        assert (unknown["high"] == 1.0).all()
        assert unknown["reason"].str.contains("do not determine").all()
    between = [effects.query("level != 'A' and reference != 'A'").iloc[0] for effects in found]
    assert abs(between[0]["change"]) == pytest.approx(abs(between[1]["change"]), rel=1e-6)


def test_no_two_columns_of_the_isoforms_are_alike():
    rng = np.random.default_rng(2)
    changes = []
    for last in ("tumour_low", "other"):
        level = np.array(["healthy", "tumour", last])[np.arange(60) % 3]
        counts = np.random.default_rng(3).poisson(4.0, (1, 60, 2))
        table = fit_genes(
            counts,
            coords=rng.random((60, 2)),
            covariates=pd.DataFrame({"region": level}),
            model="glm",
            progress=False,
        ).isoforms
        assert table.columns.is_unique
        assert table.filter(like="delta").shape[1] == 6
        changes.append(table[f"delta_region={last}"].to_numpy())
    np.testing.assert_allclose(*changes, rtol=1e-9)


def test_slides_are_independent_blocks(bare, tissue):
    """A gene read on one slide alone does not see the others; order of the spots is free."""
    group = bare.groups[0]
    doubled = np.concatenate([group.counts, 0 * group.counts], axis=1)
    order = np.random.default_rng(1).permutation(122)
    library = np.repeat(["one", "two"], 61)[order]
    both = replace(
        bare,
        coords=np.concatenate([bare.coords, bare.coords])[order],  # at the same places
        groups=(GeneGroup(doubled[:, order], group.gene_names, group.iso_names),),
        library=library,
        spot_names=None,
    )
    alone = fit_slide(replace(bare, groups=(group,)), progress=False)
    together = fit_slide(both, progress=False)
    for name in ("log_marginal", "log_marginal_white", "sigma", "theta"):
        np.testing.assert_allclose(together.table[name], alone.table[name], rtol=1e-5)
    graph = Job.of(both, RunOptions()).graph
    row, column = graph.nonzero()
    assert (library[row] == library[column]).all()
    with pytest.raises(ValueError, match=r"joins spots of different slides in \d+ pairs"):
        fit_slide(replace(both, adjacency=csc_array(np.ones((122, 122)))), progress=False)


def test_one_failure_is_a_row(bare, monkeypatch):
    good = fit_slide(bare, GLM, progress=False)

    def fit(counts, *arguments, **more):
        if np.array_equal(counts, bare_counts(bare)["c"]):
            raise MemoryError("too much")
        return fit_glm(counts, *arguments, **more)

    monkeypatch.setattr("splisosm_pyro.genes.one_gene.fit_glm", fit)
    bad = fit_slide(bare, GLM, progress=False)
    assert bad.table["status"].tolist()[2] == "failed: too much"
    others = bad.table["gene"] != "c"
    pd.testing.assert_frame_equal(alone(bad.table[others]), alone(good.table[others]))
    with pytest.raises(ValueError, match="gene 'c' has no fit: failed: too much"):
        bad.model("c")


def bare_counts(slide):
    """Counts by the name of the gene."""
    return {
        str(gene): counts
        for group in slide.groups
        for gene, counts in zip(group.gene_names, group.counts, strict=True)
    }


def test_ctrl_c_returns_what_is_done_and_resume_does_the_rest(bare, tmp_path, monkeypatch):
    append = Records.append
    calls = []

    def interrupted(self, outcomes):
        append(self, outcomes)
        calls.append(len(outcomes))
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Records, "append", interrupted)
    part = fit_slide(bare, GLM, progress=False, batch_size=2, resume=tmp_path)
    assert not part.complete
    assert len(part.table) == part.slide.n_genes == 2
    assert part.counts(0).tolist() == bare_counts(bare)[part.table["gene"][0]].tolist()
    monkeypatch.setattr(Records, "append", append)
    rest = fit_slide(bare, GLM, progress=False, resume=tmp_path)
    assert rest.complete
    assert rest.table["gene"].tolist() == list("abcdef")
    same(rest, fit_slide(bare, GLM, progress=False))
    with pytest.raises(ValueError, match=r"other options .*model was 'glm', now 'glmm'"):
        fit_slide(bare, progress=False, resume=tmp_path)
    other = replace(bare, coords=bare.coords + 1.0)
    with pytest.raises(ValueError, match="run on other data"):
        fit_slide(other, GLM, progress=False, resume=tmp_path)


def test_ctrl_c_in_compiled_code_is_not_the_genes_failure(bare, tmp_path, monkeypatch):
    """Numba turns it into a SystemError."""
    begun = []

    def interrupted(*args, **kwargs):
        begun.append(len(begun))
        if len(begun) == 4:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as error:
                raise SystemError("returned a result with an exception set") from error
        return fit_glm(*args, **kwargs)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr("splisosm_pyro.genes.one_gene.fit_glm", interrupted)
        part = fit_slide(bare, GLM, progress=False, batch_size=1, resume=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not part.complete
    assert len(begun) == 4
    assert part.table["status"].tolist() == ["converged"] * 3
    monkeypatch.setattr("splisosm_pyro.genes.one_gene.fit_glm", fit_glm)
    rest = fit_slide(bare, GLM, progress=False, resume=tmp_path)
    same(rest, fit_slide(bare, GLM, progress=False))


KILLED = """
import sys
import numpy as np
from splisosm_pyro.genes.run.fit_genes import fit_genes

file = np.load(sys.argv[1])
fit_genes(file["counts"], coords=file["coords"], batch_size=1, progress=False, resume=sys.argv[2])
"""


def test_killed_and_resumed(tissue, tmp_path):
    """Killed at any moment; writers killed again and again are tested with the records."""
    counts = np.concatenate([tissue.counts.numpy()] * 2)
    np.savez(tmp_path / "x.npz", counts=counts, coords=tissue.coords)
    run = [sys.executable, "-c", KILLED, tmp_path / "x.npz", tmp_path / "run"]
    path = tmp_path / "run" / NAME
    process = subprocess.Popen(run, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") > 1:  # with the header
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    lines = path.read_bytes().split(b"\n")[1:-1]  # without the header and what may be torn
    done = [json.loads(line.split(b" ", 2)[2])["genes"][0]["index"] for line in lines]
    assert 1 <= len(done) == len(set(done)) < len(counts)
    resumed = fit_genes(counts, coords=tissue.coords, progress=False, resume=tmp_path / "run")
    whole = fit_genes(counts, coords=tissue.coords, progress=False)
    pd.testing.assert_frame_equal(
        resumed.table.drop(columns="seconds"), whole.table.drop(columns="seconds"), check_exact=True
    )


def test_memory_is_predicted_and_refused(bare, monkeypatch, tmp_path):
    job = Job.of(bare, RunOptions())
    each = workers.bytes_per_worker(bare, job.prepared().kernel)
    assert 450e6 < each < 1e9
    monkeypatch.setattr(workers, "available_bytes", lambda: 2.5 * each)
    workers.check_memory(bare, job, 2)
    with pytest.raises(ValueError, match="n_jobs=3 needs about"):
        workers.check_memory(bare, job, 3)
    with pytest.raises(ValueError, match=r"n_jobs=9 needs about .* GB .*: n_jobs=2 would fit"):
        fit_slide(bare, progress=False, n_jobs=9)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:     1000 kB\n")
    monkeypatch.undo()
    monkeypatch.setattr("splisosm_pyro.fit.accelerator.memory.MEMINFO", meminfo)
    assert available_bytes() <= 1024e3


def test_filters_and_names_of_what_they_removed(bare):
    counts = [np.zeros((61, n)) for n in (1, 2, 2, 4, 3)]
    counts[1][0] = [50, 50]  # one spot
    counts[2][:9] = [1, 1]
    counts[3][:] = [10, 0.2, 12, 0.1]
    counts[4][:] = [30, 0.25, 0]
    names = ["single", "narrow", "few", "rare", "left"]
    given = {"coords": bare.coords, "gene_names": names, "model": "glm", "progress": False}
    dropped = fit_genes(counts, min_counts=20, min_spots=2, min_share=0.05, **given)
    assert dropped.table["gene"].tolist() == ["rare"]
    assert dropped.table["isoforms"].tolist() == ["iso_0;iso_2"]
    assert dropped.removed.to_numpy().tolist() == [
        ["single", "", "one isoform only"],
        ["left", "iso_1", "below 0.05 of the gene's reads, dropped"],
        ["left", "iso_2", "below 0.05 of the gene's reads, dropped"],
        ["left", "", "one isoform only is left"],
        ["rare", "iso_1", "below 0.05 of the gene's reads, dropped"],
        ["rare", "iso_3", "below 0.05 of the gene's reads, dropped"],
        ["few", "", "fewer than 20 reads"],
        ["narrow", "", "reads at fewer than 2 spots"],
    ]
    with pytest.warns(SplisosmWarning, match="2 genes have counts that are no whole numbers"):
        merged = fit_genes(counts, min_share=0.05, rare="merge", **given)
    row = merged.table.set_index("gene").loc["rare"]
    assert row["isoforms"] == "iso_0;iso_1+iso_3;iso_2"
    assert row["reads"] == pytest.approx(61 * 22.3)
    with pytest.raises(ValueError, match="no gene is left: 3 with fewer than 1e"):
        fit_genes(counts[1:4], coords=bare.coords, min_counts=1e6, progress=False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be 'auto' or a whole number above 0"),
        ({"n_jobs": 0}, ValueError, "n_jobs must be a whole number above 0, or -1, came 0"),
        ({"smooth": "exact"}, ValueError, "smooth must be one of 'auto', 'laplace', 'ep'"),
        ({"smooth": "ep", "nugget": "laplace"}, ValueError, "integrates the nugget as well"),
        ({"nugget": "exact"}, ValueError, "nugget.* must be one of 'laplace', 'quadrature'"),
        ({"model": "lm"}, ValueError, "model must be one of 'glmm', 'glm'"),
        ({"min_share": 1.0}, ValueError, r"min_share must be in \[0, 1\), came 1.0"),
        ({"seed": -1}, ValueError, "seed must be a whole number of at least 0, came -1"),
        ({"rho": 1.0}, ValueError, r"rho must be in \[0, 1\), came 1.0"),
        ({"coords": None}, ValueError, "coords must hold the places of the spots"),
        ({"coords": np.full((61, 2), np.nan)}, ValueError, "coords must be finite, .* 61 spots"),
        ({"covariates": ["region"]}, TypeError, "covariates must be a DataFrame"),
        ({"gene_names": ["a"]}, ValueError, "gene_names must hold 6 names, came 1"),
        ({"fitting_configs": {"tolerance": 1}}, ValueError, "no key 'tolerance'"),
        ({"var_prior_model": "beta"}, ValueError, "must be one of"),
    ],
)
def test_bad_arguments_are_named(tissue, change, error, message):
    given = {"coords": tissue.coords, "progress": False} | change
    with pytest.raises(error, match=message):
        fit_genes(tissue.counts.numpy(), **given)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((1, 61, 2), -1.0), "choose the layer with the raw counts"),
        (np.full((1, 61, 2), "x"), "counts must be numbers, came <U1"),
        (np.ones((1, 60, 2)), r"counts of gene 0 must have 61 spots, came \(60, 2\)"),
        (np.ones((1, 61, 1)), "no gene is left: 1 with one isoform only"),
        (np.ones((0, 61, 2)), "no gene is left: the data have none"),
    ],
)
def test_bad_counts_are_named(tissue, values, message):
    with pytest.raises(ValueError, match=message):
        fit_genes(values, coords=tissue.coords, progress=False)


def test_no_spots_and_unknown_sources_are_named():
    with pytest.raises(ValueError, match="there is no spot left"):
        fit_genes(np.ones((1, 0, 2)), coords=np.ones((0, 2)), progress=False)
    with pytest.raises(TypeError, match="must be an AnnData, a path, a Slide or arrays"):
        fit_genes(7)
