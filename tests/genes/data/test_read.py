"""Reading .npz and .h5ad: genes by their number of isoforms, covariates, and what is refused."""

import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from splisosm_pyro.genes import read_slide
from splisosm_pyro.genes.data.covariates import covariate

S = 7
COORDS = np.random.default_rng(0).random((S, 2))
REGION = np.array(["b", "a", "c", "a", "b", "c", "a"])
# columns of the isoform matrix: the gene of each, interleaved on purpose
GENES = ["g3", "g2", "lonely", "g3", "g2", "h2", "g3", "h2"]


@pytest.fixture
def matrix():
    return np.random.default_rng(1).poisson(0.8, (S, len(GENES)))


@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        path = tmp_path / "slide.npz"
        np.savez(path, **{"coords": COORDS, **arrays})
        return path

    return write


@pytest.fixture
def h5ad(tmp_path, matrix):
    anndata = pytest.importorskip("anndata")

    def write(counts=matrix, **obs):
        var = pd.DataFrame({"gene": GENES}, index=[f"iso{i}" for i in range(len(GENES))])
        spots = [f"spot{s}" for s in range(S)]
        table = pd.DataFrame({"region": pd.Categorical(REGION), **obs}, index=spots)
        adata = anndata.AnnData(X=sparse.csr_matrix(2 * matrix), obs=table, var=var)
        adata.layers["counts"] = counts
        adata.obsm["spatial"] = COORDS
        adata.obsm["mix"] = np.arange(2.0 * S).reshape(S, 2)
        adata.write_h5ad(tmp_path / "slide.h5ad")
        return tmp_path / "slide.h5ad"

    return write


def counts(n_genes, n_isos):
    return np.random.default_rng(n_isos).poisson(1.0, (n_genes, S, n_isos)).astype(np.uint16)


def test_npz_with_one_number_of_isoforms(npz):
    named = {"gene_names": ["x", "y"], "iso_names": [["x1", "x2"], ["y1", "y2"]]}
    slide = read_slide(npz(counts=counts(2, 2), counts_3=counts(4, 3), **named))
    (group,) = slide.groups
    np.testing.assert_array_equal(group.counts, counts(2, 2))
    assert group.gene_names.tolist() == named["gene_names"]
    assert group.iso_names.tolist() == named["iso_names"]
    np.testing.assert_array_equal(slide.coords, COORDS)
    assert slide.design.shape == (S, 0)
    assert slide.n_genes == 2


def test_npz_with_several_numbers_of_isoforms(npz):
    path = npz(counts_10=counts(1, 10), counts_3=counts(4, 3), gene_names_3=list("abcd"))
    assert [g.counts.shape for g in read_slide(path).groups] == [(4, S, 3), (1, S, 10)]
    (group,) = read_slide(path, n_isos=3).groups
    assert group.gene_names.tolist() == list("abcd")
    assert group.iso_names[0].tolist() == ["iso_0", "iso_1", "iso_2"]
    assert read_slide(path, n_isos=10).groups[0].gene_names.tolist() == ["gene_0"]


def test_genes_without_names_are_numbered_alike_whatever_is_read(npz):
    path = npz(counts_2=counts(2, 2), counts_3=counts(1, 3))
    both = [name for group in read_slide(path).groups for name in group.gene_names]
    assert both == ["gene_2_0", "gene_2_1", "gene_3_0"]
    assert read_slide(path, n_isos=3).groups[0].gene_names.tolist() == both[2:]


def test_npz_n_isos_takes_counts_where_it_fits(npz):
    path = npz(counts=counts(2, 3))
    assert read_slide(path, n_isos=3).groups[0].counts.shape == (2, S, 3)
    with pytest.raises(ValueError, match=r"n_isos = 4 asks for counts_4; the file has counts$"):
        read_slide(path, n_isos=4)


def test_npz_covariates(npz):
    path = npz(
        counts=counts(1, 2),
        design=np.arange(S),
        region=REGION,
        region_onehot=np.arange(2 * S).reshape(S, 2),
        region_names=["p", "q"],
        mix=np.arange(S)[:, None],
    )
    assert list(read_slide(path).design) == ["design"]
    design = read_slide(path, covariates=["region", "region_onehot", "mix"]).design
    assert list(design) == [
        *("region=b", "region=c", "region_onehot=p", "region_onehot=q", "mix=0"),
    ]
    np.testing.assert_array_equal(design["region=c"], REGION == "c")
    np.testing.assert_array_equal(design["region_onehot=q"], np.arange(1, 2 * S, 2))


def test_h5ad_groups_isoforms_by_gene_in_the_order_of_the_file(h5ad, matrix):
    slide = read_slide(h5ad(), group_iso_by="gene")
    two, three = slide.groups
    assert two.gene_names.tolist() == ["g2", "h2"]
    assert two.iso_names.tolist() == [["iso1", "iso4"], ["iso5", "iso7"]]
    np.testing.assert_array_equal(two.counts[1], matrix[:, [5, 7]])
    assert three.iso_names.tolist() == [["iso0", "iso3", "iso6"]]
    np.testing.assert_array_equal(three.counts[0], matrix[:, [0, 3, 6]])
    assert slide.single == ("lonely",)
    np.testing.assert_array_equal(slide.coords, COORDS)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def test_h5ad_layer_in_any_form(h5ad, matrix, form):
    slide = read_slide(h5ad(form(3 * matrix)), group_iso_by="gene", n_isos=3)
    (group,) = slide.groups
    np.testing.assert_array_equal(group.counts[0], 3 * matrix[:, [0, 3, 6]])
    main = read_slide(h5ad(), group_iso_by="gene", layer="X", n_isos=3)
    np.testing.assert_array_equal(main.groups[0].counts[0], 2 * matrix[:, [0, 3, 6]])


def test_h5ad_covariates(h5ad):
    path = h5ad(age=np.arange(S), old=np.arange(S) > 3)
    design = read_slide(
        path, group_iso_by="gene", covariates=["region", "age", "old", "mix"]
    ).design
    assert list(design) == ["region=b", "region=c", "age", "old", "mix=0", "mix=1"]
    np.testing.assert_array_equal(design["region=b"], REGION == "b")
    np.testing.assert_array_equal(design["old"], np.arange(S) > 3)
    assert {str(dtype) for dtype in design.dtypes} == {"float64"}


def test_read_slide_goes_by_the_ending(npz, h5ad):
    assert read_slide(npz(counts=counts(1, 2))).n_genes == 1
    assert read_slide(h5ad(), group_iso_by="gene").n_genes == 3
    with pytest.raises(ValueError, match=r"must end in .npz or .h5ad, or be a .zarr, came 'a.csv'"):
        read_slide("a.csv")


def test_categories_keep_their_order():
    column = pd.Series(pd.Categorical(["hi", "lo", "hi"], categories=["lo", "mid", "hi"]))
    assert list(covariate("level", column).columns) == ["level=hi"]


def test_real_files_agree(real_data):
    pytest.importorskip("anndata")
    npz = read_slide(real_data / "sit_mob_ont_isoforms.npz", covariates=["region"])
    h5 = read_slide(real_data / "sit_mob_ont_isoforms.h5ad", covariates=["region"])
    np.testing.assert_array_equal(npz.groups[0].counts, h5.groups[0].counts)
    np.testing.assert_array_equal(npz.groups[0].gene_names, h5.groups[0].gene_names)
    pd.testing.assert_frame_equal(npz.design, h5.design)
    three = read_slide(real_data / "sit_mob_ont_isoforms.npz", n_isos=3)
    assert three.groups[0].counts.shape == (213, 918, 3)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({}, {}, "the file has no 'counts': its arrays are coords"),
        ({"counts": counts(1, 2)}, {"spatial_key": "xy"}, "no 'xy': its arrays are coords, counts"),
        ({"counts": counts(1, 2)}, {"covariates": ["age"]}, "no 'age'"),
        ({"counts": counts(1, 2)[:, 1:]}, {}, r"counts must have shape .*came \(1, 6, 2\)"),
        ({"counts": counts(1, 1)}, {}, "2 or more isoforms"),
        ({"counts": counts(1, 2), "gene_names": ["a", "b"]}, {}, r"gene_names must have shape"),
        ({"counts": counts(1, 2), "coords": COORDS[:, :1]}, {}, r"coords must hold numbers"),
        (
            {"counts": counts(1, 2), "coords": np.ones((S, 4))},
            {},
            r"coords must hold numbers of shape \(S, 2\) or \(S, 3\), came float64 \(7, 4\)",
        ),
        (
            {"counts": counts(2, 2), "gene_names": ["a", "a"]},
            {},
            "gene names must be different, came a more than once",
        ),
        (
            {"counts": counts(1, 2), "iso_names": [["i", "i"]]},
            {},
            "isoforms of a gene must have different names, came i more than once in gene gene_0",
        ),
        (
            {"counts": counts(1, 2), "coords": COORDS * np.nan},
            {},
            "coords must be finite, .*at 7 of 7 spots",
        ),
        ({"counts": counts(1, 2), "a": REGION[1:]}, {"covariates": ["a"]}, "must have 7 rows"),
        ({"counts": counts(1, 2), "a": COORDS * np.nan}, {"covariates": ["a"]}, "7 of 7 lack it"),
    ],
)
def test_bad_npz_is_named(npz, arrays, options, message):
    with pytest.raises(ValueError, match=message):
        read_slide(npz(**arrays), **options)


def test_a_number_of_isoforms_that_no_gene_has(h5ad):
    with pytest.raises(ValueError, match="no gene has 5 isoforms: set n_isos to what there is, 1,"):
        read_slide(h5ad(), group_iso_by="gene", n_isos=5)


def test_missing_file_and_missing_package(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none.npz"):
        read_slide(tmp_path / "none.npz")
    monkeypatch.setitem(sys.modules, "anndata", None)
    (tmp_path / "any.h5ad").touch()
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'splisosm-pyro\[anndata\]'"):
        read_slide(tmp_path / "any.h5ad")


def test_pickles_are_refused(npz):
    path = npz(counts=counts(1, 2), region=np.array([None] * S, dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_slide(path, covariates=["region"])
