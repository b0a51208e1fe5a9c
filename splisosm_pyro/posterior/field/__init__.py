"""Draws and summaries of the field given the outer parameters."""
