"""The model's densities: counts given logits, field and counts together, as Pyro distributions."""
