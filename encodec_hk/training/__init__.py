"""Training: losses, codebooks, data and the loop."""
