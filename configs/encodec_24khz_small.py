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
    return config
