"""The shipped default: the causal 24 kHz model at half its width; mono, 1.5 to 12 kbps.

Architecture of arXiv:2210.13438, sections 3.1 and 3.2, with 16 filters (LSTM width 256) in place of
32 and 16 codebooks in place of 32.

    python run.py infer IN OUT
    python run.py describe
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """The locked configuration of the variant."""
    config = base.get_config()
    config.name = "encodec_24khz_small"
    config.checkpoint = "checkpoints/encodec_24khz_small.safetensors"

    model = config.model
    model.num_filters = 16
    model.num_codebooks = 16
    model.bandwidths = (1.5, 3.0, 6.0, 12.0)

    # Made for two CPU cores: small batches of short crops, and losses of waveforms that count as
    # much as that of spectra. With less the waveform never comes to follow the input's.
    training = config.training
    training.num_steps = 60_000
    training.batch_size = 8
    training.crop_seconds = 0.5
    training.learning_rate = 1e-3
    training.adam_betas = (0.8, 0.95)
    training.warmup_steps = 300
    training.max_gradient_norm = 5.0
    training.average_decay = 0.999
    training.losses.time_l1 = 0.2
    training.losses.time_l2 = 0.4
    training.losses.mel = 4.0
    training.codebooks.first_step = 800
    training.codebooks.restart_below = 0.1
    training.discriminator.num_filters = 8
    training.discriminator.first_step = 40_000
    training.data.num_workers = 1
    training.checkpoint_every = 500
    training.validate_every = 4000
    training.validation_seconds = 4.0
    return config
