"""Vocos for codes of Meta's 24 kHz model: another decoder, at 1.5 to 12 kbps.

Source: arXiv:2306.00814; `charactr/vocos-encodec-24khz` on the Hugging Face hub.

    python run.py convert --config=configs/vocos_encodec_24khz.py \
        --source=charactr/vocos-encodec-24khz --output=checkpoints/vocos_encodec_24khz.safetensors
    python run.py infer IN.ecdc OUT.wav --config=configs/vocos_encodec_24khz.py

The checkpoint decodes only. With --join=CHECKPOINT, one of `configs/encodec_24khz.py`, `convert`
adds the encoder (docs/vocos.md).
"""

import ml_collections

from encodec_hk.configs import base


def get_config() -> ml_collections.ConfigDict:
    """Return the locked configuration of the variant."""
    config = base.get_config()
    config.name = "vocos_encodec_24khz"
    config.checkpoint = "checkpoints/vocos_encodec_24khz.safetensors"

    model = config.model
    model.decoder = "vocos"
    # Those that the decoder was trained for, of the codebooks of encodec_24khz.
    model.num_codebooks = 16
    model.bandwidths = (1.5, 3.0, 6.0, 12.0)
    return config
