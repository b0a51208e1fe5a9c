"""Genes that say little: all reads of one isoform, all but one spot's, specks of reads."""

import numpy as np
import pytest

from splisosm_pyro import fit_genes
from splisosm_pyro.maths.axes import SplisosmWarning

COORDS = np.random.default_rng(0).uniform(size=(24, 2))
READS = np.random.default_rng(1).poisson(0.8, 24)


def of_one_isoform(n_isos):
    """A gene for each isoform that has all reads, and one more with a spot of another isoform."""
    counts = np.zeros((2 * n_isos, 24, n_isos))
    spot = READS.argmax()
    for p in range(n_isos):
        counts[p, :, p] = counts[n_isos + p, :, p] = READS
        counts[n_isos + p, spot, p], counts[n_isos + p, spot, p - 1] = 0.0, READS[spot]
    return counts


@pytest.mark.parametrize(
    ("n_isos", "smooth"), [(2, "auto"), (3, "auto"), (3, "laplace"), (4, "auto"), (6, "auto")]
)
def test_all_reads_of_one_isoform_are_a_fit_that_says_so(n_isos, smooth):
    fits = fit_genes(of_one_isoform(n_isos), coords=COORDS, smooth=smooth, progress=False)
    table = fits.table
    assert not table["status"].str.startswith("failed").any()
    assert (table["reason"] != "").all()
    gain = table["gain_over_glm"].to_numpy()
    assert (gain > -1e-6).all()
    for p in range(n_isos):
        assert table[f"usage_{p}"][p] == pytest.approx(1.0, abs=1e-9)
    assert table["loglik_glm"][:n_isos].abs().max() < 1e-9


@pytest.mark.parametrize("n_isos", [3, 4])
def test_specks_of_reads_weigh_nothing(n_isos):
    """Such as an estimate of counts leaves at an empty spot."""
    clean = np.random.default_rng(2).multinomial(READS, np.full(n_isos, 1 / n_isos)).astype(float)
    genes = [clean]
    for speck in (5e-324, 1e-310, 1e-70, 1e-10):
        spoiled = clean.copy()
        spoiled[READS == 0, 0] = speck
        genes.append(spoiled)
    with pytest.warns(SplisosmWarning):
        table = fit_genes(np.array(genes), coords=COORDS, progress=False).table
    same = table.drop(columns=["gene", "isoforms", "reads", "seconds", "seed"], errors="ignore")
    for other in range(1, len(genes)):
        assert same.iloc[other].equals(same.iloc[0]), same.iloc[[0, other]].T
