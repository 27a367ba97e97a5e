"""AudioGen's tokenizer: mono sound at 16 kHz, four codebooks at 50 frames per second; 2.2 kbps.

Source: `audiocraft`, its AudioGen page (16 kHz, 50 Hz, four codebooks of 2048) and its model config
`encodec_large_nq4_s320` (64 filters); `facebook/audiogen-medium`.

    python run.py convert --config=configs/encodec_16khz.py --source=compression_state_dict.bin \
        --output=checkpoints/encodec_16khz.safetensors
    python run.py infer IN OUT --config=configs/encodec_16khz.py
"""

import ml_collections

from encodec_hk.configs import base


def get_config() -> ml_collections.ConfigDict:
    """Return the locked configuration of the variant."""
    config = base.get_config()
    config.name = "encodec_16khz"
    config.checkpoint = "checkpoints/encodec_16khz.safetensors"

    model = config.model
    model.sample_rate = 16000
    model.causal = False
    model.num_filters = 64
    model.shortcut = "identity"
    # audiocraft's default; conversion takes the pad mode from the checkpoint's own config.
    model.pad_mode = "constant"
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
