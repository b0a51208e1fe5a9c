"""Errors of the numerical floor that callers turn into a status."""


class NotPositiveDefinite(ValueError):
    """A matrix that has to be positive definite is not, or holds a NaN or an infinity."""
