"""Covariates that a run was not fitted with: what is asked, one gene's tests, the table."""
