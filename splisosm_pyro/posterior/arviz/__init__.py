"""Labelled containers as ArviZ takes them, and their diagnosis."""
