"""A density interpolated between few points, and importance sampling from it."""
