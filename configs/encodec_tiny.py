"""A causal 24 kHz model small enough for tests and first steps; it has no published weights.

Architecture of arXiv:2210.13438, sections 3.1 and 3.2, with 8 filters, a latent of 32 and
8 codebooks.

    python run.py describe --config=configs/encodec_tiny.py
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """The locked configuration of the variant."""
    config = base.get_config()
    config.name = "encodec_tiny"
    config.checkpoint = "checkpoints/encodec_tiny.safetensors"

    model = config.model
    model.num_filters = 8
    model.latent_dim = 32
    model.num_codebooks = 8
    model.bandwidths = (1.5, 3.0, 6.0)
    return config
