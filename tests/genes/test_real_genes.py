"""Real genes, from the file to the ranking."""

import numpy as np
import pytest

from splisosm_pyro.genes import read_slide
from splisosm_pyro.genes.run.fit_genes import fit_slide

KNOWN = {"Myl6", "Rps24", "Rpl5", "Plp1"}


def test_genes_known_to_vary_over_the_tissue_gain_most(real_data):
    pytest.importorskip("anndata")
    slide = read_slide(real_data / "sit_mob_ont_isoforms.h5ad")
    names = slide.groups[0].gene_names
    chosen = np.isin(names, list(KNOWN)) | (np.arange(len(names)) % 16 == 0)
    some = slide.with_groups([slide.groups[0].take(chosen)])
    table = fit_slide(some, progress=False).table
    assert len(table) > 40
    for gain in ("gain_over_white", "gain_over_glm"):
        first = set(table.nlargest(5, gain)["gene"])
        assert KNOWN.issubset(first), gain
