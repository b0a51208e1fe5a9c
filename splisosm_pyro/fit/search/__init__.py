"""Searches that know no model: projected quasi-Newton, first-order methods."""
