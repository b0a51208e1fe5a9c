"""Sparse Cholesky: elimination order, symbolic analysis, fronts, solves, selected inverse."""
