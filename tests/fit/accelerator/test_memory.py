import numpy as np
import pytest
import torch

from splisosm_pyro import CARKernel, DenseKernel, LowRankKernel, MultinomGLMM
from splisosm_pyro.fit.accelerator import memory

N_SPOTS = 40


def kernels():
    axis = np.arange(N_SPOTS)
    coords = np.column_stack([axis % 8, axis // 8]).astype(float)
    car = CARKernel.from_coords(coords, k=4)
    values, vectors = car.eigenpairs(5)
    return {
        "CARKernel": car,
        "DenseKernel": DenseKernel(car.dense()),
        "LowRankKernel": LowRankKernel(values, vectors),
    }


@pytest.mark.parametrize("name", ["CARKernel", "DenseKernel", "LowRankKernel"])
def test_a_fit_that_cannot_fit_is_refused_before_it_starts(name, monkeypatch):
    counts = torch.ones(2, N_SPOTS, 3, dtype=torch.float64)
    counts[1, 10:] = 0
    model = MultinomGLMM(fitting_method="marginal_newton")
    model.setup_data(counts, corr_sp=kernels()[name])
    needed = memory.kernel_bytes(model.data.kernel) + memory.gene_bytes(
        model.data.kernel, N_SPOTS, 2
    )
    before = {key: value.clone() for key, value in model.state_dict().items()}
    monkeypatch.setattr(memory, "available_bytes", lambda: needed - 1.0)
    with pytest.raises(MemoryError, match=f"40 occupied spots and 2 logits .* {name}, .* GB are"):
        model.fit(quiet=True)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    monkeypatch.setattr(memory, "available_bytes", lambda: needed)
    model.fit(quiet=True)
    assert len(model.status) == 2


def test_a_slide_too_large_for_a_dense_kernel():
    identity = DenseKernel(torch.eye(10, dtype=torch.float64))
    identity.n_spots = 100_000  # 20,000 occupied: six matrices of 40,000 x 40,000
    assert memory.gene_bytes(identity, 20_000, 2) > 6 * 8 * 40_000**2
