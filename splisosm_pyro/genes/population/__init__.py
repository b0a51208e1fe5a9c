"""The genes of a run under their population: columns, usage, prediction at new spots."""
