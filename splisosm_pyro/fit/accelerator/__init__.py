"""Dense kernels of many genes in lockstep, for an accelerator."""
