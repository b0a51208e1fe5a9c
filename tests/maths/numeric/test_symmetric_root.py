"""Square roots of blocks, singular ones too."""

import numpy as np
import pytest

from splisosm_pyro.maths.numeric.symmetric_root import symmetric_root


@pytest.mark.parametrize("n_logits", [1, 2, 3])
def test_symmetric_roots_also_of_singular_blocks(n_logits):
    rng = np.random.default_rng(0)
    left = (
        rng.normal(size=(5, n_logits, n_logits))
        * np.array([1e-6, 1.0, 1e6, 1.0, 0.0])[:, None, None]
    )
    left[3, :, 1:] = 0.0  # rank one
    blocks = left @ left.transpose(0, 2, 1)
    blocks[4] -= 1e-18 * np.eye(n_logits)  # rounding below zero is zero
    root = symmetric_root(blocks)
    scale = np.abs(blocks).max(axis=(1, 2), keepdims=True) + 1e-12
    np.testing.assert_allclose(root @ root / scale, blocks / scale, atol=1e-6)
    np.testing.assert_allclose(root, root.transpose(0, 2, 1), rtol=1e-12)
    assert (np.linalg.eigvalsh(root / np.sqrt(scale)) > -1e-7).all()
