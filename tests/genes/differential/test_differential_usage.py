"""Covariates tested after a run: the null is the run's, and nothing but the data matters."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro.genes.data.slide import GeneGroup
from splisosm_pyro.genes.job import RunOptions
from splisosm_pyro.genes.run.fit_genes import fit_slide
from splisosm_pyro.hypotheses.many import false_discovery_rates
from splisosm_pyro.maths.axes import SplisosmWarning

NUMBERS = ["statistic", "df", "p", "q", "score_p", "change", "low", "high"]


@pytest.fixture(scope="module")
def fits(slide):
    """Two genes of two isoforms, one of three, one whose reads are all of one isoform."""
    two, three = slide.groups
    pure = two.take(np.array([1]))
    counts = pure.counts.copy()
    counts[..., 1] = 0
    pure = GeneGroup(counts, np.array(["pure"]), pure.iso_names)
    both = GeneGroup(
        *(np.concatenate(p) for p in zip(vars(two).values(), vars(pure).values(), strict=True))
    )
    short = slide.with_groups([both, three.take(np.array([0]))])
    return fit_slide(replace(short, covariates=slide.covariates[1:]), progress=False)


@pytest.fixture(scope="module")
def asked(slide):
    """A factor of three levels, a number, a mix of three parts, by spot."""
    x = slide.coords[:, 0]
    region = np.array(["low", "mid", "top"])[np.digitize(x, np.quantile(x, [0.3, 0.7]))]
    frame = pd.DataFrame({"region": region, "expr": np.sin(x / 90.0)}, index=slide.spot_names)
    return frame


def found(fits, asked, **options):
    return fits.differential_usage(asked, progress=False, **options)


@pytest.fixture(scope="module")
def table(fits, asked):
    return found(fits, asked)


def test_a_row_for_each_gene_and_covariate_as_a_whole_and_level_by_level(table):
    assert list(table)[:7] == ["gene", "covariate", "level", "statistic", "df", "p", "q"]
    first = table[table["gene"] == "a"]
    assert first["covariate"].tolist() == ["region"] * 4 + ["expr"]
    assert first["level"].tolist() == ["", "low", "mid", "top", ""]
    assert first["df"].tolist() == [2, 1, 1, 1, 1]
    assert table.loc[table["gene"] == "c", "df"].tolist() == [4, 2, 2, 2, 2]
    assert first["contrast"].tolist()[1:] == ["low", "mid", "top", "+sd"]
    strongest = first.iloc[1:4].set_index("contrast")["change"].abs().idxmax()
    assert first["contrast"].iloc[0] == strongest
    known = table[table["reason"] == ""]
    assert ((known["low"] <= known["change"]) & (known["change"] <= known["high"])).all()
    assert known[["low", "high"]].abs().to_numpy().max() <= 1.0


def test_what_cannot_be_tested_has_a_reason_and_does_not_count(table):
    pure = table[table["gene"] == "pure"]
    assert (pure["reason"] == "all reads are of one isoform").all()
    assert pure[["statistic", "p", "q", "change"]].isna().all(axis=None)
    one = table[(table["covariate"] == "expr")]
    np.testing.assert_array_equal(one["q"], false_discovery_rates(one["p"].to_numpy()))


@pytest.mark.parametrize("prior", ["none", "half_normal"])
def test_the_null_is_that_of_the_run(slide, asked, prior):
    """Against the models that a user would fit one by one, with the run's options and prior."""
    short = slide.with_groups([slide.groups[0].take(np.array([0]))])
    options = RunOptions(prior=prior)
    null = fit_slide(replace(short, covariates=slide.covariates[1:]), options, progress=False)
    own = found(null, asked[["expr"]], refit_below=1.0).iloc[0]
    from splisosm_pyro.genes.data.covariates import covariate

    more = (slide.covariates[1], covariate("expr", asked["expr"].to_numpy()))
    full = fit_slide(replace(short, covariates=more), options, progress=False)
    ratio = 2.0 * (full.table["log_marginal"] - null.table["log_marginal"])[0]
    assert own["statistic"] == pytest.approx(ratio, abs=2e-3)
    assert own["p"] == pytest.approx(full.table["du_expr_p"][0], rel=1e-3)
    effect = full.effects[(full.effects["covariate"] == "expr")].set_index("isoform")
    effect = effect.loc[own["isoform"]]
    np.testing.assert_allclose(own["change"], effect["change"], atol=3e-3)
    width = effect["high"] - effect["low"]
    np.testing.assert_allclose(
        own[["low", "high"]].astype(float), effect[["low", "high"]].astype(float), atol=0.2 * width
    )


def same(one, other):
    words = [name for name in one if name not in NUMBERS]
    pd.testing.assert_frame_equal(one[words], other[words])
    np.testing.assert_allclose(one[NUMBERS], other[NUMBERS], rtol=1e-8, atol=1e-10)


def test_workers_batches_units_and_the_order_of_genes_do_not_matter(fits, asked, table):
    same(found(fits, asked, n_jobs=2, batch_size=1), table)
    same(found(fits, asked.assign(expr=1e6 * asked["expr"] - 5e3)), table)
    alone = found(fits, asked, genes=["c", "a"])
    assert alone["gene"].unique().tolist() == ["c", "a"]
    part = table[table["gene"] == "a"].drop(columns="q").reset_index(drop=True)
    again = alone[alone["gene"] == "a"].drop(columns="q").reset_index(drop=True)
    pd.testing.assert_frame_equal(again, part)


def test_the_order_of_spots_does_not_matter(fits, asked, table):
    order = np.random.default_rng(0).permutation(len(asked))
    slide = fits.slide
    groups = [GeneGroup(g.counts[:, order], g.gene_names, g.iso_names) for g in slide.groups]
    age = slide.covariates[0]
    moved = replace(
        slide,
        coords=slide.coords[order],
        covariates=(replace(age, columns=age.columns.iloc[order]),),
        groups=tuple(groups),
        spot_names=slide.spot_names[order],
    )
    other = found(replace(fits, slide=moved), asked)
    words = [name for name in table if name not in NUMBERS]
    pd.testing.assert_frame_equal(other[words], table[words])
    np.testing.assert_allclose(other[NUMBERS], table[NUMBERS], rtol=1e-8, atol=1e-10)


def test_tables_arrays_and_anndata_are_the_same(fits, asked, table):
    anndata = pytest.importorskip("anndata")
    shuffled = asked.sample(frac=1.0, random_state=1)
    more = pd.concat([shuffled, asked.iloc[:3].rename(index="more{}".format)])
    expr = more[["expr"]].to_numpy()
    adata = anndata.AnnData(
        np.hstack([expr, 0 * expr]), more[["region"]].copy(), pd.DataFrame(index=["expr", "silent"])
    )
    same(found(fits, ["region", "expr"], adata=adata), table)
    same(found(fits, shuffled), table)
    same(found(fits, {"region": asked["region"].to_numpy(), "expr": asked["expr"].tolist()}), table)
    number = table[table["covariate"] == "expr"].reset_index(drop=True)
    with pytest.warns(SplisosmWarning, match=r"1 of 2 variables .*\(silent\)"):
        same(found(fits, adata), number)
    plain = found(fits, asked[["expr"]].to_numpy())
    same(plain.assign(covariate="expr"), number)


def test_a_matrix_is_tested_as_a_whole_and_column_by_column(fits, asked):
    mix = pd.DataFrame(np.random.default_rng(2).random((61, 2)), columns=["p", "q"])
    rows = found(fits, {"mix": mix.to_numpy(), "expr": asked["expr"]}, genes="a", refit_below=0)
    assert rows["level"].tolist() == ["", "0", "1", ""]
    assert rows["df"].tolist() == [2, 1, 1, 1]
    assert (rows["kind"] == "score").all()


def test_white_noise_alone(fits, asked, slide):
    white = found(fits, asked, spatial=False, genes="a")
    assert np.isfinite(white["p"]).all()
    glm = fit_slide(fits.slide, RunOptions(model="glm"), progress=False)
    same(found(glm, asked, spatial=False, genes="a"), white)
    with pytest.raises(ValueError, match="spatial must be False"):
        found(glm, asked)


def test_a_gene_that_breaks_is_a_reason(fits, asked, monkeypatch):
    params = (None, *fits.params[1:])
    status = fits.table["status"].where(fits.table.index > 0, "failed: no luck")
    broken = replace(fits, params=params, table=fits.table.assign(status=status))
    rows = found(broken, asked[["expr"]])
    assert rows["reason"][0] == "the fit without it is failed: no luck"
    assert rows["reason"][3] == ""


def test_an_interrupt_keeps_what_was_done(fits, asked, monkeypatch):
    from splisosm_pyro.genes.differential import one_gene

    done, test = [], one_gene.screen_one

    def interrupted(*args):
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt
        return test(*args)

    monkeypatch.setattr(one_gene, "screen_one", interrupted)
    rows = found(fits, asked[["expr"]], batch_size=1)
    reasons = rows["reason"].tolist()
    assert [why.startswith("interrupted before") for why in reasons] == [False, False, True, True]


BAD = {
    "'x' must differ between spots": lambda f: {"x": np.ones(61)},
    "'x' must (be finite|have a value)": lambda f: {"x": np.append(np.nan, np.arange(60.0))},
    "'x' must have 61 spots, came 7": lambda f: {"x": np.arange(7.0)},
    "61 spots in rows, came shape": lambda f: np.ones((7, 2)),
    "'again' follows from the covariates that were fitted": lambda f: {
        "again": 3.0 * f.slide.design["age"].to_numpy() - 1.0
    },
    "1 of 61 are not in its index \\(s60\\)": lambda f: pd.Series(
        np.arange(60.0), index=f.slide.spot_names[:60], name="x"
    ),
    "adata must be given": lambda f: "region",
    "at least one": lambda f: {},
}


@pytest.mark.parametrize("words", BAD)
def test_bad_covariates_are_named(fits, words):
    with pytest.raises(ValueError, match=words):
        found(fits, BAD[words](fits))


def test_bad_names_and_options_are_named(fits, asked):
    anndata = pytest.importorskip("anndata")
    adata = anndata.AnnData(np.ones((61, 1)), asked.copy())
    with pytest.raises(ValueError, match="'nothing' is in none of obs, obsm and var_names"):
        found(fits, "nothing", adata=adata)
    with pytest.raises(ValueError, match=r"adata must hold the spots of the fit, 1 of 61 .*s0"):
        found(fits, "region", adata=adata[1:])
    with pytest.raises(ValueError, match="there is no gene 'z'"):
        found(fits, asked, genes="z")
    with pytest.raises(ValueError, match="refit_below must be within 0 and 1, came 2"):
        found(fits, asked, refit_below=2)
