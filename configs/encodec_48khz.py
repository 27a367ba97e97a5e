"""Meta's non-causal 48 kHz model: stereo music in 1 s segments; 3 to 24 kbps.

Source: arXiv:2210.13438, section 3.1 (non-streamable: segments of 1 s with 10 ms of overlap, each
normalised) and 3.2; `encodec.EncodecModel.encodec_model_48khz`.

    python run.py convert --config=configs/encodec_48khz.py --source=encodec_48khz-7e698e3e.th \
        --output=checkpoints/encodec_48khz.safetensors
    python run.py infer IN OUT --config=configs/encodec_48khz.py --bandwidth=6
    python run.py infer IN OUT --checkpoint=facebook/encodec_48khz --bandwidth=6
"""

import ml_collections

from encodec_hk.configs import base


def get_config() -> ml_collections.ConfigDict:
    """Return the locked configuration of the variant."""
    config = base.get_config()
    config.name = "encodec_48khz"
    config.checkpoint = "checkpoints/encodec_48khz.safetensors"

    model = config.model
    model.sample_rate = 48000
    model.channels = 2
    model.causal = False
    model.norm = "time_group_norm"
    model.num_codebooks = 16
    model.bandwidths = (3.0, 6.0, 12.0, 24.0)
    model.normalize = True
    model.segment_seconds = 1.0
    model.overlap = 0.01

    # Section 3.4: other weights; the discriminator has windows twice as long and is updated half as
    # often as the generator.
    training = config.training
    training.losses.adversarial = 4.0
    training.losses.feature = 4.0
    training.discriminator.windows = (4096, 2048, 1024, 512, 256)
    training.discriminator.update_probability = 1 / 2
    return config
