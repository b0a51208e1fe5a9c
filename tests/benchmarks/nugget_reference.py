"""The reference implementation on simulated counts, in an interpreter of its own.

    python nugget_reference.py counts.npz fits.npz METHOD

needs ``splisosm``, NumPy and PyTorch alone. ``counts.npz`` holds ``counts`` (G, S, P) and ``cov``
(S, S); ``fits.npz`` gets ``sigma`` and ``theta`` (G,) and the processor ``seconds`` of a gene.
"""

import sys
import time
import warnings

import numpy as np
import torch
from splisosm.glmm import MultinomGLMM


def main() -> None:
    """Fit all genes with free sigma, otherwise at the defaults."""
    source, target, method = sys.argv[1:]
    torch.set_num_threads(1)
    data = np.load(source)
    counts, cov = (torch.tensor(data[name], dtype=torch.float32) for name in ("counts", "cov"))
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # size, floor of the variance, epochs
        model = MultinomGLMM(var_fix_sigma=False, fitting_method=method)
        model.setup_data(counts, corr_sp=cov)
        model.fit(quiet=True)
    seconds = (time.process_time() - began) / len(counts)
    sigma = model.sigma.detach().abs().numpy()[:, 0]
    theta = model.var_sp_prop().detach().numpy()[:, 0]
    np.savez(target, sigma=sigma, theta=theta, seconds=np.full(len(counts), seconds))


if __name__ == "__main__":
    main()
