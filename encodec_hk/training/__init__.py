"""Training: data, losses, codebooks, the step and the run."""
