"""Read a posterior that another ArviZ wrote, and have this one summarise it."""

import sys

import numpy as np

from splisosm_pyro.posterior import diagnose, read_posterior


def main(path):
    """Groups, names, values and the check of ``write_posterior.py``'s two genes are there."""
    posterior = read_posterior(path)
    assert posterior["posterior"]["gene"].values.tolist() == ["Myl6", "Plp1"]
    assert np.isfinite(posterior["posterior"]["sigma"].values).all()
    assert posterior["log_likelihood_given_field"]["counts"].sizes["spot"] == 12
    assert diagnose(posterior)["method"].tolist() == ["laplace"] * 2


if __name__ == "__main__":
    main(sys.argv[1])
