"""Densities of the outer parameters: GLM, joint and marginal GLMM, with their proper priors."""
