"""Every field of a configuration, with the values of the paper's 24 kHz model.

A variant file calls `get_config()` and assigns only what differs. Any field can be set by flag:

    python run.py describe --config=configs/encodec_24khz.py --config.model.num_filters=16
    python run.py describe --config=configs/encodec_24khz.py --config.model.ratios="(8,8,5)"

Another frame rate (sample rate, ratios) or codebook size makes a code cost other kbps: then
`--config.model.bandwidths` and `--config.inference.bandwidth` have to follow.

Sources: [E] Défossez et al., High Fidelity Neural Audio Compression, arXiv:2210.13438, by section;
the code of `encodec` 0.1.1 and `audiocraft` where the paper is silent.
"""

import ml_collections
from ml_collections import config_dict


def get_config() -> ml_collections.ConfigDict:
    """The locked base configuration: the paper's causal 24 kHz model."""
    config = ml_collections.ConfigDict()
    config.name = "encodec_24khz"
    # The checkpoint that commands read when no --checkpoint is given.
    config.checkpoint = "checkpoints/encodec_24khz.safetensors"

    model = config.model = ml_collections.ConfigDict()
    # Signal.
    model.sample_rate = 24000  # Hz
    model.channels = 1  # 1 mono, 2 stereo
    # True: no output depends on later input, so the model streams ([E] 3.1).
    model.causal = True

    # SEANet encoder and decoder ([E] 3.1).
    # Upsampling factors in decoder order, the encoder runs them backwards; their product is the
    # hop: audio samples per latent frame.
    model.ratios = (8, 5, 4, 2)
    model.num_filters = 32  # channels of the first stage; each of the ratios doubles them
    model.latent_dim = 128  # channels of the latent, and of a codebook's vectors
    model.num_residual_layers = 1  # residual layers per stage
    model.kernel_size = 7  # steps (odd), the first convolution of encoder and decoder
    model.last_kernel_size = 7  # steps (odd), the last convolution of encoder and decoder
    model.residual_kernel_size = 3  # steps (odd), before dilation
    model.dilation_base = 2  # residual layer j of a stage has dilation dilation_base**j
    model.compress = 2  # a residual layer narrows its channels by this; divides num_filters
    model.num_lstm_layers = 2  # 0: no LSTM
    # "weight_norm" (folded into the weights when a checkpoint is read, so that it computes what
    # "none" computes), "time_group_norm" (GroupNorm of one group over the segment), "none".
    model.norm = "weight_norm"
    model.shortcut = "conv"  # of a residual layer: "conv" (1x1 convolution) or "identity"
    model.pad_mode = "reflect"  # of every convolution: "reflect" or "constant" (zeros)

    # Residual vector quantiser ([E] 3.2).
    model.num_codebooks = 32
    model.codebook_size = 1024  # entries, a power of two: log2 of it is the bits of a code
    # kbps the model was trained for; each a whole number of codebooks.
    model.bandwidths = (1.5, 3.0, 6.0, 12.0, 24.0)

    # Segments, of non-causal models only ([E] 3.1).
    model.normalize = False  # True: each segment is divided by its own RMS before the encoder
    # Length of a segment in seconds; None: one segment, the whole signal. A placeholder of any type
    # and not of float, because a float field cannot be set back to None by flag.
    model.segment_seconds = config_dict.placeholder(object)
    model.overlap = 0.01  # share of a segment that the next one covers again, in [0, 1)

    inference = config.inference = ml_collections.ConfigDict()
    inference.bandwidth = 6.0  # kbps, where encode is given none
    inference.batch_size = 8  # rows of a compiled block
    # Length of a block in seconds, where there are no segments; the codec takes at least what the
    # exact start of a stream needs (`encodec_hk.config.minimum_first_block`).
    inference.block_seconds = 1.0

    return config.lock()
