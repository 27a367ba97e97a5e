"""Sound in and out: files, pipes, sample rates and channels. Numpy, libsndfile and soxr; no JAX."""
