"""Meta's causal 24 kHz model: mono, any audio; 1.5 to 24 kbps. The base configuration.

Source: arXiv:2210.13438, sections 3.1 and 3.2; `encodec.EncodecModel.encodec_model_24khz`.

    python run.py convert --config=configs/encodec_24khz.py --source=encodec_24khz-d7cc33bc.th \
        --output=checkpoints/encodec_24khz.safetensors
    python run.py infer IN OUT --config=configs/encodec_24khz.py --bandwidth=6
    python run.py infer IN OUT --checkpoint=facebook/encodec_24khz --bandwidth=6
"""

import ml_collections

from encodec_hk.configs import base


def get_config() -> ml_collections.ConfigDict:
    """Return the locked configuration of the variant."""
    config = base.get_config()
    # Well below the speeds measured on two AVX2 cores, see docs/performance.md.
    config.bench.min_ratios = (
        ("transformers", "encode", 10, 1, 0.9),
        ("transformers", "decode", 10, 1, 1.2),
        ("transformers", "encode", 60, 1, 1.0),
        ("transformers", "decode", 60, 1, 1.4),
    )
    return config
