"""Leave-one-spot-out: the cavity of a spot, a gene's scores, their table."""
