"""MusicGen's tokenizer: mono music at 32 kHz, four codebooks at 50 frames per second; 2.2 kbps.

Source: arXiv:2306.05284, section 3.1 (hop 640, 64 filters, four codebooks of 2048);
`facebook/encodec_32khz`. The pad mode is that of `transformers`; conversion takes it from the
checkpoint's own config.

    python run.py convert --config=configs/encodec_32khz.py --source=facebook/encodec_32khz \
        --output=checkpoints/encodec_32khz.safetensors
    python run.py infer IN OUT --config=configs/encodec_32khz.py
    python run.py infer IN OUT --checkpoint=facebook/encodec_32khz
"""

import ml_collections

from encodec_hk.configs import base


def get_config() -> ml_collections.ConfigDict:
    """Return the locked configuration of the variant."""
    config = base.get_config()
    config.name = "encodec_32khz"
    config.checkpoint = "checkpoints/encodec_32khz.safetensors"

    model = config.model
    model.sample_rate = 32000
    model.causal = False
    model.ratios = (8, 5, 4, 4)
    model.num_filters = 64
    model.shortcut = "identity"
    model.num_codebooks = 4
    model.codebook_size = 2048
    model.bandwidths = (2.2,)

    config.inference.bandwidth = 2.2

    # audiocraft's `solver/compression/default.yaml`.
    training = config.training
    training.losses.mel = 2.0
    training.losses.adversarial = 4.0
    training.losses.feature = 4.0
    training.mel_windows = (64, 128, 256, 512, 1024)
    training.discriminator.update_probability = 1.0

    config.language.num_codebooks = 4
    return config
