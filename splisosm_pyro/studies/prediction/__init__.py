"""What a model predicts: predictive checks, and what its priors mean for usage."""
