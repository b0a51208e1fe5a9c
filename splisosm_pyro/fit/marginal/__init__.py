"""The latent field eliminated: conditional mode, Laplace's method, expectation propagation."""
