"""Sound: files, pipes, sample rates, channels, mel filters. Numpy, libsndfile and soxr; no JAX."""
