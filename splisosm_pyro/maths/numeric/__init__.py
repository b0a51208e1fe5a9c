"""What every floor needs: array types, compilation, fast exp and log, Pareto smoothing."""
