"""Chains: of the whole program, or of the outer parameters by a surrogate."""
