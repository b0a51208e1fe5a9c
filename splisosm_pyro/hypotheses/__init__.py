"""Tests of a gene: does its usage vary in space, does it change with a covariate."""
