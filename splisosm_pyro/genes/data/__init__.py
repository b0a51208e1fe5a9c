"""Slides as they come: AnnData files, arrays, covariates, filters."""
