"""The shipped default: the causal 24 kHz model at half its width; mono, 1.5 to 12 kbps.

Architecture of arXiv:2210.13438, sections 3.1 and 3.2, with 16 filters (LSTM width 256) instead of
32 and 16 codebooks instead of 32.

    python run.py infer IN OUT
    python run.py describe
    python run.py train --data=FOLDER --validation=FOLDER --workdir=DIR

Expected on the shipped clips (mean of five, by `run.py evaluate`): SI-SNR 6.3, 8.8 and
10.7 dB, ViSQOL 3.32, 3.42 and 3.46 at 3, 6 and 12 kbps.
"""

import ml_collections

from encodec_hk.configs import base


def get_config() -> ml_collections.ConfigDict:
    """Return the locked configuration of the variant."""
    config = base.get_config()
    config.name = "encodec_24khz_small"
    config.checkpoint = "checkpoints/encodec_24khz_small.safetensors"

    model = config.model
    model.num_filters = 16
    model.num_codebooks = 16
    model.bandwidths = (1.5, 3.0, 6.0, 12.0)
    config.language.num_codebooks = 16

    # Settings of the shipped model's run on CPU cores, with small batches of short crops; the
    # weights of the losses come from a few trials. The model's card lists the runs before and
    # after. No run has used these settings from the first step.
    training = config.training
    training.num_steps = 11_700
    training.batch_size = 8
    training.crop_seconds = 0.5
    training.learning_rate = 6e-4
    training.adam_betas = (0.8, 0.99)
    training.schedule = "cosine"
    training.warmup_steps = 50
    training.max_gradient_norm = 5.0
    training.average_decay = 0.998
    training.losses.time_l1 = 0.0
    training.losses.time_l2 = 2.0
    training.losses.mel = 6.0
    training.losses.commitment = 1.0
    training.mel_exponent = 0.15
    training.mel_floor = 1e-6
    training.balancer.decay = 0.99
    training.codebooks.first_step = 300
    training.codebooks.decay = 0.98
    training.codebooks.restart_below = 0.3
    training.discriminator.num_filters = 8
    training.discriminator.first_step = 11_700
    training.data.mix_probabilities = (0.9, 0.1, 0.0)
    training.data.num_workers = 1
    training.checkpoint_every = 250
    training.validate_every = 1000
    training.validation_items = 12
    return config
