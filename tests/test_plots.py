"""Maps of tissues: what is drawn, where, in which colours."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.figure import Figure

from splisosm_pyro.plots import EMPTY, GeneMaps, gene_figure, tissue_map
from splisosm_pyro.simulate import hexagonal_lattice


def corners(spots):
    """Corners of each marker without the repeated one."""
    return np.array([path.vertices[:-1] for path in spots.get_paths()])


def test_hexagons_fill_the_lattice_however_it_is_turned():
    coords = hexagonal_lattice(60)[1]
    for angle in (0.0, 0.2, 1.0):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        spots = tissue_map(Figure().add_subplot(), coords @ turn.T, np.arange(60.0))
        marks = corners(spots)
        assert marks.shape[1] == 6
        np.testing.assert_allclose(marks.mean(1), coords @ turn.T, atol=1e-6)
        # neighbours share corners: a full cell's six corners are those of three cells each
        shared = {tuple(corner) for corner in np.round(marks.reshape(-1, 2), 3).tolist()}
        assert len(shared) < 0.5 * marks.shape[0] * 6
        x, y = marks[0].T
        area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
        assert area == pytest.approx(np.sqrt(0.75) * 100**2, rel=1e-6)


def test_circles_on_a_square_lattice():
    coords = np.stack(np.meshgrid(np.arange(6.0), np.arange(5.0)), -1).reshape(-1, 2)
    marks = corners(tissue_map(Figure().add_subplot(), coords, np.zeros(30)))
    assert marks.shape[1] == 32
    np.testing.assert_allclose(np.hypot(*(marks[7] - coords[7]).T), 0.45, rtol=1e-9)


def test_a_missing_value_is_grey():
    figure = Figure()
    spots = tissue_map(figure.add_subplot(), [[0, 0], [1, 0], [0.5, 0.866]], [0.0, np.nan, 1.0])
    figure.draw_without_rendering()
    colours = spots.get_facecolor()
    np.testing.assert_allclose(colours[1], to_rgba(EMPTY))
    assert not np.allclose(colours[0], colours[2])


def test_limits_label_and_aspect():
    figure = Figure()
    ax = figure.add_subplot()
    spots = tissue_map(ax, [[0, 0], [9, 1]], [0.2, 0.4], limits=(0.0, 1.0), label="usage")
    assert spots.get_clim() == (0.0, 1.0)
    assert ax.get_aspect() == 1.0
    assert ax.yaxis_inverted()
    assert figure.axes[1].get_ylabel() == "usage"
    assert tissue_map(ax, [[0, 0]], [np.nan], colorbar=False).get_clim() == (0, 1)


@pytest.fixture
def genes():
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.4, (40, 3)).astype(float)
    ratio = rng.dirichlet([2.0, 1.0, 1.0], 40)
    shallow = GeneMaps("shallow", counts, ratio, 0.1 * ratio, isoform=1)
    deep = GeneMaps("deep", 100 * counts, ratio, 0.1 * ratio, truth=ratio)
    none = GeneMaps("none", 0 * counts, ratio, 0.1 * ratio)
    return [shallow, deep, none]


def test_gene_figure_shows_what_it_is_given(genes):
    figure = gene_figure(hexagonal_lattice(40)[1], genes, scale_bar=(200.0, "200 µm"))
    panels = [ax for ax in figure.axes if ax.collections and ax.get_aspect() == 1.0]
    shown = [ax.collections[0] for ax in panels]
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == [
        *("reads", "observed usage", "fitted usage", "true usage", "standard error"),
    ]
    total = genes[0].counts.sum(1)
    np.testing.assert_array_equal(shown[0].get_array().mask, total == 0)
    np.testing.assert_array_equal(shown[0].get_array().compressed(), total[total > 0])
    usage = (genes[0].counts[:, 1] / np.maximum(total, 1))[total > 0]
    np.testing.assert_allclose(shown[1].get_array().compressed(), usage)
    np.testing.assert_array_equal(shown[2].get_array(), genes[0].ratio[:, 1])
    np.testing.assert_array_equal(shown[3].get_array(), genes[0].ratio_se[:, 1])
    assert isinstance(shown[4].norm, LogNorm)
    np.testing.assert_array_equal(shown[7].get_array(), genes[1].truth[:, 0])
    assert all(spots.get_clim() == (0, 1) for spots in (shown[1], shown[2], shown[5], shown[7]))


def test_an_error_that_no_usage_can_have_is_grey(genes):
    one = genes[0]
    error = np.array(one.ratio_se)
    error[:3, 1] = [0.5, 0.51, np.inf]
    figure = gene_figure(hexagonal_lattice(40)[1], [replace(one, ratio_se=error)])
    panel = [ax for ax in figure.axes if ax.collections and ax.get_aspect() == 1.0][3]
    shown = panel.collections[0].get_array()
    assert shown.mask.nonzero()[0].tolist() == [1, 2]
    assert panel.collections[0].get_clim() == (0.0, 0.5)
    labels = [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()]
    assert {"reads per spot", "share of the reads"} < set(labels)


def test_gene_figure_is_saved(genes, tmp_path):
    gene_figure(hexagonal_lattice(40)[1], genes).savefig(tmp_path / "genes.png", dpi=50)
    assert (tmp_path / "genes.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("coords", "values", "options", "message"),
    [
        ([[0, 0, 0]], [1], {}, r"coords must be finite and of shape \(S, 2\)"),
        ([[0, np.nan]], [1], {}, "coords must be finite"),
        ([[0, 0], [1, 1]], [1], {}, r"values must have shape \(2,\), came \(1,\)"),
        ([[0, 0]], [1], {"marker": "star"}, "marker must be .*, came 'star'"),
        ([[0, 0]], [1], {"limits": (0, 1), "norm": LogNorm(1, 2)}, "norm and limits exclude"),
    ],
)
def test_bad_input_is_named(coords, values, options, message):
    with pytest.raises(ValueError, match=message):
        tissue_map(Figure().add_subplot(), coords, values, **options)


def test_no_gene_is_an_error():
    with pytest.raises(ValueError, match="genes must hold at least one"):
        gene_figure([[0, 0]], [])
