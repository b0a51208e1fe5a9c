"""Thousands of genes: reading them from files, fitting them one by one, a table of the results."""

from splisosm_pyro.genes.data.filters import Filters
from splisosm_pyro.genes.data.read import read_slide

__all__ = ["Filters", "read_slide"]
