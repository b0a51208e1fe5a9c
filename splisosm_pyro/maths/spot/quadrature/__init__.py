"""Rules that integrate a spot's likelihood over Gaussian noise."""
