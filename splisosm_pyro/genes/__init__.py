"""Thousands of genes: reading them from files, fitting them one by one, a table of the results."""
