"""Write a small posterior to a netCDF file, for the tests with another ArviZ."""

import sys
import warnings

import numpy as np

from splisosm_pyro import CARKernel, MultinomGLMM


def main(path):
    """Two genes of 12 spots, with what all methods keep."""
    coords = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0)), axis=-1).reshape(-1, 2)
    counts = np.random.default_rng(0).poisson(4.0, (2, 12, 3))
    model = MultinomGLMM(var_fix_sigma=False)
    model.setup_data(counts, CARKernel.from_coords(coords, k=4, rho=0.9), coords[:, :1] - 1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # on the next ArviZ
        model.posterior("laplace", draws=250, names={"gene": ["Myl6", "Plp1"]}).to_netcdf(path)


if __name__ == "__main__":
    main(sys.argv[1])
