"""One gene's draws: what is asked for, Laplace and nested Laplace, the prior's own."""
