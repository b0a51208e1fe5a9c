"""Names: one word for a list, isoforms without a gene, names that come twice."""

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro import fit_genes
from splisosm_pyro.genes.data.names import SlideKeys, is_missing
from splisosm_pyro.genes.data.read import slide_of
from splisosm_pyro.maths.axes import SplisosmWarning

anndata = pytest.importorskip("anndata")
RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(3.0, (2, 8, 2))
COORDS = RNG.random((8, 2))
KEYS = SlideKeys(group_iso_by="symbol", layer="X")


def adata(symbols):
    counts = RNG.poisson(3.0, (8, len(symbols))).astype(float)
    var = pd.DataFrame({"symbol": symbols}, index=[f"i{i}" for i in range(len(symbols))])
    obs = pd.DataFrame({"region": list("aabb" * 2)}, index=[f"s{s}" for s in range(8)])
    made = anndata.AnnData(counts, var=var, obs=obs)
    made.obsm["spatial"] = COORDS
    return made


@pytest.mark.parametrize(
    "nothing", ["", "  ", "nan", "NaN", "None", "<NA>", "NA", " na ", "-", None, np.nan, pd.NA]
)
def test_isoforms_without_a_gene_are_left_out_and_counted(nothing):
    with pytest.warns(SplisosmWarning, match=r"3 of 5 isoforms have no gene in var\['symbol'\]"):
        slide = slide_of(adata(["g", nothing, "g", nothing, nothing]), KEYS)
    assert [group.gene_names.tolist() for group in slide.groups] == [["g"]]
    assert slide.groups[0].iso_names.tolist() == [["i0", "i2"]]
    assert slide.nameless == ("i1", "i3", "i4")
    assert slide.single == ()


def test_what_is_missing_in_columns_of_other_kinds():
    assert is_missing(pd.Series(pd.Categorical(["a", None, "nan"]))).tolist() == [False, True, True]
    assert is_missing(np.array([1.0, np.nan])).tolist() == [False, True]


def test_genes_of_arrays_without_a_name_are_left_out_and_listed():
    given = {"coords": COORDS, "model": "glm", "progress": False}
    with pytest.warns(SplisosmWarning, match="2 of 4 isoforms have no gene in gene_names"):
        fits = fit_genes(COUNTS, gene_names=["g", "nan"], **given)
    assert fits.table["gene"].tolist() == ["g"]
    assert fits.removed.to_numpy().tolist() == [
        ["", "iso_0", "no name of a gene"],
        ["", "iso_1", "no name of a gene"],
    ]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"gene_names": ["A", "A"]}, ValueError, "must be different, came A more than once"),
        ({"iso_names": [["i", "j"], ["k", "k"]]}, ValueError, "came k more than once in gene gene"),
        ({"gene_names": "gene"}, ValueError, "gene_names must hold 2 names, came 1"),
        ({"iso_names": ["ab", "cd"]}, TypeError, "iso_names must hold .*, came the word 'ab'"),
        ({"iso_names": "ab"}, TypeError, "iso_names must hold .*, came the word 'ab'"),
        ({"reference": "GCL"}, TypeError, "reference must map covariates to levels, .*'GCL'"),
        ({"group_iso_by": "symbol"}, ValueError, "group_iso_by has no meaning .* are arrays"),
        ({"adj_key": "W"}, ValueError, "adj_key has no meaning where the data are arrays"),
        ({"library_key": ["slide"]}, TypeError, r"library_key must be one name, came \['slide'\]"),
        ({"n_isos": "3"}, TypeError, "n_isos must be a whole number"),
        ({"min_counts": "50"}, TypeError, "min_counts must be a number, came '50'"),
        ({"layer": None}, TypeError, "layer must be one name, came None"),
        ({"sensitivity": 3}, TypeError, "sensitivity must be True, False or"),
    ],
)
def test_names_that_are_no_names_are_one_sentence(given, error, message):
    with pytest.raises(error, match=message):
        fit_genes(COUNTS, coords=COORDS, progress=False, **given)


def test_what_a_source_has_no_use_for_is_said(slide):
    with pytest.raises(ValueError, match="coords has no meaning where the data are an AnnData"):
        fit_genes(adata(["g", "g"]), group_iso_by="symbol", coords=COORDS)
    with pytest.raises(ValueError, match="covariates has no meaning where the data are a Slide"):
        fit_genes(slide, covariates=["region"])


def test_one_word_is_a_list_of_one():
    slide = slide_of(adata(["g", "g"]), KEYS, covariates="region")
    assert list(slide.design) == ["region=b"]
    column = pd.Series(np.arange(8.0), name="age")
    assert list(slide_of(COUNTS, SlideKeys(), column, COORDS).design) == ["age"]
    assert slide_of(COUNTS[:1], SlideKeys(), None, COORDS, "word").groups[0].gene_names == ["word"]
    with pytest.raises(TypeError, match="covariates must be names, came 3"):
        slide_of(adata(["g", "g"]), KEYS, covariates=[3])


def test_the_slide_of_a_spot_is_no_word_for_nothing():
    made = adata(["g", "g"])
    made.obs["slide"] = ["nan", *"aabbbaa"]
    with pytest.raises(ValueError, match=r"obs\['slide'\] must name a slide .*, 1 lack it"):
        fit_genes(made, layer="X", group_iso_by="symbol", library_key="slide")
