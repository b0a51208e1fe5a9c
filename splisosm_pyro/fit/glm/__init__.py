"""The GLM: reduced problem, Newton and IWLS steps, certificate, one gene or a batch."""
