"""Floor 2: options in, results out. Pure functions, gene by gene."""
