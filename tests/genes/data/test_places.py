"""Places of spots in the plane and in space, and graphs that are given."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from splisosm_pyro import fit_genes
from splisosm_pyro.genes.data.names import SlideKeys
from splisosm_pyro.genes.data.places import given_graph, graph_of, places_of, warn_of_close_sections
from splisosm_pyro.genes.data.read import slide_of
from splisosm_pyro.genes.data.slide import Slide
from splisosm_pyro.genes.result.figures import gene_page, write_figures
from splisosm_pyro.maths.axes import SplisosmWarning
from splisosm_pyro.maths.covariance.neighbours import mutual_neighbours

RNG = np.random.default_rng(1)
SPACE = RNG.random((40, 3))
LINE = sparse.diags([np.ones(29)] * 2, [1, -1]).tocsr()
SQUARE = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2)


def stacked(step, n_sections=3):
    """Sections of one lattice above each other."""
    return np.vstack([np.c_[SQUARE, np.full(25, z * step)] for z in range(n_sections)])


def slide_at(coords, **more):
    return Slide(np.asarray(coords), (), (), **more)


def test_neighbours_in_space():
    graph, places = graph_of(slide_at(SPACE), 4)
    np.testing.assert_array_equal(graph.toarray(), mutual_neighbours(SPACE, 4).toarray())
    np.testing.assert_array_equal(places, SPACE)
    np.testing.assert_array_equal(places_of(slide_at(SPACE)), SPACE[:, :2])


def test_a_third_coordinate_that_is_constant_changes_nothing():
    flat = np.c_[SPACE[:, :2], np.full(40, 7.0)]
    graph, _ = graph_of(slide_at(flat), 4)
    np.testing.assert_array_equal(graph.toarray(), mutual_neighbours(SPACE[:, :2], 4).toarray())
    np.testing.assert_array_equal(places_of(slide_at(flat)), flat[:, :2])


@pytest.mark.parametrize(("step", "near", "joined"), [(0.5, True, False), (1.0, False, True)])
def test_sections_nearer_than_their_spots_are_kept_apart_and_it_is_said(step, near, joined):
    coords = stacked(step)
    graph, _ = graph_of(slide_at(coords), 6)
    row, column = graph.nonzero()
    assert (coords[row, 2] != coords[column, 2]).any() == joined
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_of_close_sections(slide_at(coords))
    assert len(said) == near
    assert all(
        "taken as sections, whose spots are no neighbours" in str(one.message) for one in said
    )


def test_maps_show_sections_and_slides_side_by_side():
    library = np.repeat(["one", "two"], 75)
    both = slide_at(np.vstack([stacked(9.0)] * 2), library=library)
    places = places_of(both)
    assert places.shape == (150, 2)
    starts = places.reshape(6, 25, 2)
    assert (starts[1:, :, 0].min(axis=1) > starts[:-1, :, 0].max(axis=1)).all()
    graph, _ = graph_of(both, 4)
    assert graph[:75, 75:].nnz == 0


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        (np.ones((8, 4)), r"numbers of shape \(S, 2\) or \(S, 3\), came float64 \(8, 4\)"),
        (np.ones((8, 1)), r"numbers of shape \(S, 2\) or \(S, 3\), came float64 \(8, 1\)"),
        (np.ones(8), r"numbers of shape .* came float64 \(8,\)"),
        (np.full((8, 2), "a"), "numbers of shape .* came <U1"),
        (np.c_[np.ones((8, 2)), [np.nan] * 8], "finite, came a NaN .* at 8 of 8 spots"),
    ],
)
def test_coordinates_that_are_none_are_one_sentence(coords, message):
    with pytest.raises(ValueError, match=f"coords must .*{message}"):
        slide_of(np.ones((1, 8, 2)), SlideKeys(), coords=coords)


def test_a_slide_with_three_coordinates_is_fitted_and_drawn():
    counts = RNG.poisson(2.0, (1, 40, 2))
    fits = fit_genes(counts, coords=SPACE, progress=False)
    np.testing.assert_array_equal(fits.slide.coords, SPACE)
    expected = mutual_neighbours(SPACE, 6).toarray() > 0
    np.testing.assert_array_equal(fits.kernel.adjacency.toarray() > 0, expected)
    assert gene_page(fits, "gene_0").axes


def with_entry(row, column, value):
    graph = LINE.tolil()
    graph[row, column] = value
    return graph.tocsr()


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (with_entry(0, 9, 1.0), r"'W' is no graph of spots: .* symmetric.* take W.maximum\(W.T\)"),
        (with_entry(0, 1, -1.0), "'W' is no graph of spots: adjacency must not be negative"),
        (with_entry(0, 1, np.nan), "'W' is no graph of spots: adjacency must be finite"),
        (sparse.csr_matrix((30, 30)), "'W' must join spots, came no edge .* larger radius"),
        (sparse.eye_array(30).tocsr(), "'W' must join spots, came no edge"),
        (LINE[:, :4], r"'W' must have shape \(30, 30\), came \(30, 4\)"),
        (np.ones(30), r"'W' must have shape \(30, 30\), came \(30,\)"),
    ],
)
def test_graphs_that_are_none_are_one_sentence(graph, message):
    with pytest.raises(ValueError, match=message):
        given_graph(graph, "'W'", SPACE[:30])


def test_what_is_legal_in_a_graph_but_seldom_meant_is_said():
    line = np.c_[np.cumsum(RNG.random(30)), np.zeros(30)]
    gaps = np.diff(line[:, 0])
    far = sparse.diags([gaps, gaps], [1, -1]).tocsr()
    near = far.copy()
    near.data = np.exp(-near.data)
    with pytest.warns(SplisosmWarning, match="'W' looks like distances: .* larger for nearer"):
        given_graph(far, "'W'", line)
    with pytest.warns(SplisosmWarning, match="'distances'.* looks like distances"):
        given_graph(near, "'distances'", line)
    graph = given_graph(near, "'W'", line)  # without a word
    np.testing.assert_allclose(graph.toarray(), near.toarray())
    with pytest.warns(SplisosmWarning, match="joins 30 spots with themselves: .* left out"):
        graph = given_graph(LINE + sparse.eye(30), "'W'", line)
    np.testing.assert_array_equal(graph.toarray(), LINE.toarray())
    alone = LINE.tolil()
    alone[0, 1] = alone[1, 0] = 0.0
    with pytest.warns(SplisosmWarning, match="1 of 30 spots have no neighbours in 'W'"):
        given_graph(alone.tocsr(), "'W'", line)


def test_one_spot_a_slide_is_said():
    slide = slide_at(SPACE[:4, :2], library=np.array(list("abcd")))
    with pytest.raises(ValueError, match="library_key must have slides of several spots"):
        graph_of(slide, 6)


def test_a_graph_without_coordinates_is_enough(tmp_path):
    counts = RNG.poisson(2.0, (1, 30, 2))
    np.savez(tmp_path / "x.npz", counts=counts, W=LINE.toarray())
    fits = fit_genes(tmp_path / "x.npz", adj_key="W", progress=False)
    np.testing.assert_array_equal(fits.kernel.adjacency.toarray(), LINE.toarray())
    fits.save(tmp_path / "result")
    again = type(fits).load(tmp_path / "result")
    assert again.slide.coords.shape == (30, 0)
    assert again.model(0).log_marginal().item() == fits.model(0).log_marginal().item()
    with pytest.warns(SplisosmWarning, match="no coordinates, .* no figures are drawn"):
        assert write_figures(fits, tmp_path / "figures") == []
    with pytest.raises(ValueError, match="there is nothing to draw on"):
        gene_page(fits, "gene_0")
    same = replace(fits.slide, coords=np.c_[np.arange(30.0), np.zeros(30)], adjacency=None)
    np.testing.assert_array_equal(graph_of(same, 1)[0].toarray(), LINE.toarray())
