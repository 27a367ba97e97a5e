"""A causal 24 kHz model small enough for tests and first steps; it has no published weights.

Architecture of arXiv:2210.13438, sections 3.1 and 3.2, with 8 filters, a latent of 32 and
8 codebooks.

    python run.py describe --config=configs/encodec_tiny.py

Expected on the shipped clips (mean of five): SI-SNR 3.2, 5.4 and 6.5 dB at 1.5, 3 and 6 kbps.
"""

import ml_collections

from encodec_hk.configs import base


def get_config() -> ml_collections.ConfigDict:
    """Return the locked configuration of the variant."""
    config = base.get_config()
    config.name = "encodec_tiny"
    config.checkpoint = "checkpoints/encodec_tiny.safetensors"

    model = config.model
    model.num_filters = 8
    model.latent_dim = 32
    model.num_codebooks = 8
    model.bandwidths = (1.5, 3.0, 6.0)

    language = config.language
    language.width = 32
    language.head_width = 16
    language.dilations = (1, 2, 4)

    # Trains within minutes on a CPU.
    training = config.training
    training.num_steps = 2000
    training.batch_size = 4
    training.crop_seconds = 0.25
    training.learning_rate = 1e-3
    training.adam_betas = (0.8, 0.95)
    training.losses.time_l1 = 1.0
    training.codebooks.first_step = 200
    training.codebooks.restart_below = 0.1
    training.discriminator.num_filters = 4
    training.discriminator.first_step = 1000
    training.data.num_workers = 0
    training.validation_items = 2
    training.validation_seconds = 2.0
    return config
