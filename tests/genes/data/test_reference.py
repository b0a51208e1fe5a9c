"""The reference isoform: which one it is, and what does not depend on it."""

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro import fit_genes
from splisosm_pyro.genes import read_slide
from splisosm_pyro.genes.data.names import SlideKeys
from splisosm_pyro.genes.data.read import slide_of
from splisosm_pyro.maths.axes import SplisosmWarning

S = 30
RNG = np.random.default_rng(4)
COORDS = RNG.random((S, 2))
PAIR = RNG.poisson([3.0, 1.0], (S, 2))
THREE = RNG.poisson([1.0, 4.0, 2.0], (S, 3))
NAMES = [["p0", "p1"], ["t0", "t1", "t2"]]


def read(chosen, keys=None, source=None):
    """Names of the isoforms, gene after gene."""
    keys = keys or SlideKeys(reference_isoform=chosen)
    if source is None:
        slide = slide_of([PAIR, THREE], keys, None, COORDS, ["pair", "three"], NAMES)
    else:
        slide = slide_of(source, keys)
    return slide, [group.iso_names[0].tolist() for group in slide.groups]


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("last", NAMES),
        ("most reads", [["p1", "p0"], ["t0", "t2", "t1"]]),
        ({"pair": "p0", "three": "t0"}, [["p1", "p0"], ["t1", "t2", "t0"]]),
        ({"pair": "p1", "three": "t2"}, NAMES),
    ],
)
def test_the_reference_comes_last_and_the_others_keep_their_order(chosen, names):
    slide, found = read(chosen)
    assert found == names
    for group, own, counts in zip(slide.groups, NAMES, (PAIR, THREE), strict=True):
        order = [own.index(name) for name in group.iso_names[0]]
        np.testing.assert_array_equal(group.counts[0], counts[:, order])


def test_genes_without_the_reference_keep_their_last():
    with pytest.warns(SplisosmWarning, match=r"1 of 2 genes have no such reference .*\(three\)"):
        assert read("p0")[1] == [["p1", "p0"], NAMES[1]]
    with pytest.raises(ValueError, match="came 'q', which no gene has"):
        read("q")
    with pytest.raises(TypeError, match=r"reference_isoform must be 'last', .*, came 3"):
        read(3)


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ([True, False, False, True, False], [["p1", "p0"], ["t0", "t2", "t1"]]),
        ([0.0, 1.0, 1.0, 0.0, np.nan], [["p0", "p1"], ["t1", "t2", "t0"]]),
        (["p0", "p0", "t1", "t1", "t1"], [["p1", "p0"], ["t0", "t2", "t1"]]),
    ],
)
def test_a_column_of_var_marks_it(tmp_path, column, names):
    anndata = pytest.importorskip("anndata")
    var = pd.DataFrame({"gene_symbol": ["pair"] * 2 + ["three"] * 3, "canonical": column})
    var.index = [*NAMES[0], *NAMES[1]]
    adata = anndata.AnnData(np.hstack([PAIR, THREE]).astype(float), var=var)
    adata.obsm["spatial"] = COORDS
    keys = SlideKeys("gene_symbol", "X", reference_isoform="canonical")
    assert read(None, keys, adata)[1] == names
    adata.write_h5ad(tmp_path / "x.h5ad")
    slide = read_slide(tmp_path / "x.h5ad", layer="X", reference_isoform="canonical")
    assert [group.iso_names[0].tolist() for group in slide.groups] == names
    adata.var["canonical"] = True
    with pytest.raises(ValueError, match=r"var\['canonical'\] must mark one .* 2 genes"):
        read(None, keys, adata)


def test_two_isoforms_have_one_field_whichever_is_the_reference():
    given = {"coords": COORDS, "progress": False, "iso_names": NAMES[:1]}
    last = fit_genes([PAIR], **given)
    other = fit_genes([PAIR], reference_isoform="most reads", **given)
    one, two = last.table.iloc[0], other.table.iloc[0]
    assert two["isoforms"] == "p1;p0"
    for name in ("log_marginal", "sigma", "theta", "log_sigma_se"):
        assert two[name] == pytest.approx(one[name], rel=1e-5), name
    assert two["bias_eta_0"] == pytest.approx(-one["bias_eta_0"], rel=1e-5)
    np.testing.assert_allclose(last.usage(0)[0], other.usage(0)[0][:, ::-1], atol=1e-6)
    np.testing.assert_allclose(last.usage(0)[1], other.usage(0)[1][:, ::-1], atol=1e-6)
