"""The cases' kernels in their three forms, and their points as tensors."""

import numpy as np
import torch

from splisosm_pyro.maths.covariance.as_kernel import DenseKernel, LowRankKernel
from splisosm_pyro.maths.covariance.car import CARKernel


def low_rank(case):
    values, vectors = np.linalg.eigh(case.V)
    rank = len(values) // 2
    return LowRankKernel(values[::-1][:rank].copy(), vectors[:, ::-1][:, :rank].copy())


KERNELS = {
    "dense": lambda case: DenseKernel(case.V),
    "low_rank": low_rank,
    "sparse": lambda case: CARKernel.from_coords(case.coords, k=3, rho=0.9),
}


def tensor(values):
    return torch.as_tensor(np.asarray(values), dtype=torch.float64)


def eta_of(case):
    return tensor(case.design @ case.beta + case.bias_eta[:, None] + case.nu)
