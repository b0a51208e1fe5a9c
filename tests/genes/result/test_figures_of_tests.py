"""What tests of many genes look like, and what they decide: ranks, titles."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro.genes.result.figures import gene_page, top_genes
from splisosm_pyro.genes.run.fit_genes import fit_slide
from splisosm_pyro.plots import FINE, FLAGGED


@pytest.fixture(scope="module")
def fits(slide):
    short = slide.with_groups([group.take(np.array([0, 1])) for group in slide.groups])
    return fit_slide(short, progress=False)


@pytest.fixture(scope="module")
def tests():
    """A table as `differential_usage` returns it, one gene of three found."""
    one = pd.DataFrame(
        {
            "gene": ["a", "b", "c", "d"],
            "covariate": "x",
            "level": "",
            "p": [1e-9, 0.2, 0.7, np.nan],
            "q": [3e-9, 0.3, 0.7, np.nan],
            "change": [0.3, -0.1, 0.02, np.nan],
        }
    )
    return pd.concat([one, one.assign(level="m", p=1.0)], ignore_index=True)


def test_genes_are_ranked_by_their_test_and_without_doubt_by_their_gain(fits):
    names = fits.table["gene"].tolist()
    table = fits.table.assign(sv_p=[0.03, 1e-30, 1e-12, np.nan], gain_over_white=[9.0, 20, 30, 5])
    ranked = top_genes(replace(fits, table=table), 4)
    assert ranked == [names[2], names[1], names[0], names[3]]
    untested = replace(fits, table=table.drop(columns="sv_p"))
    assert top_genes(untested, 4) == [names[2], names[1], names[0], names[3]]


def test_titles_say_q(fits):
    row = fits.row("c")
    assert f"space q {row['sv_q']:.2g}" in gene_page(fits, "c").get_suptitle()
    lacking = fits.table.assign(sv_q=np.nan)
    assert "space not tested" in gene_page(replace(fits, table=lacking), "c").get_suptitle()


def test_a_volcano_shows_what_the_table_holds(fits, tests):
    ax = fits.volcano("x", tests).axes[0]
    drawn = {tuple(one.get_facecolor()[0][:3]): one.get_offsets().data for one in ax.collections}
    assert len(drawn) == 2
    points = np.concatenate(list(drawn.values()))
    order = np.argsort(points[:, 0])
    np.testing.assert_allclose(points[order, 0], [-10.0, 2.0, 30.0])
    np.testing.assert_allclose(points[order, 1], -np.log10([0.2, 0.7, 1e-9]))
    assert [text.get_text() for text in ax.texts] == ["a"]
    assert ax.get_title() == "x: 1 of 3 genes at q ≤ 0.05"
    assert FINE != FLAGGED
    assert fits.volcano("x", tests, level="m").axes[0].get_title().startswith("x=m: ")


def test_a_volcano_of_a_fitted_covariate(fits):
    ax = fits.volcano("region").axes[0]
    points = np.concatenate([one.get_offsets().data for one in ax.collections])
    effects = fits.effects[fits.effects["covariate"] == "region"]
    largest = effects.groupby("gene")["change"].apply(lambda one: one.abs().max()).dropna()
    np.testing.assert_allclose(np.sort(np.abs(points[:, 0])), np.sort(100 * largest))
    with pytest.raises(ValueError, match="was tested, age, region; came 'nothing'"):
        fits.volcano("nothing")


def test_p_values_lie_on_the_diagonal_where_they_are_level(fits, tests):
    even = pd.DataFrame(
        {"gene": "g", "covariate": "x", "level": "", "p": (np.arange(200) + 0.5) / 200}
    )
    histogram, quantiles = fits.p_values(even).axes
    assert {bar.get_height() for bar in histogram.patches} == {10.0}
    x, y = quantiles.collections[1].get_offsets().data.T
    np.testing.assert_allclose(x, y)
    assert len(fits.p_values().axes) == 6
    assert fits.p_values(tests).axes[0].get_title() == "x, 3 genes"
    with pytest.raises(ValueError, match="must be a test with a p-value"):
        fits.p_values(tests.iloc[:0])
    with pytest.raises(ValueError, match="tests must hold 'y' with level '', it holds x"):
        fits.volcano("y", tests)
