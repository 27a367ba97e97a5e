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
    inference.batch_size = 8  # rows of a compiled block on each device, at most
    # Length of a block in seconds, where there are no segments; the codec takes at least what the
    # exact start of a stream needs (`encodec_hk.config.minimum_first_block`).
    inference.block_seconds = 1.0

    # Of the decoder's products and convolutions: "float32", or where there is a GPU for it
    # "tensorfloat32" or "bfloat16", faster and not as exact. Codes are exact by all of them.
    inference.decode_precision = "float32"

    bench = config.bench = ml_collections.ConfigDict()
    bench.seconds = (1, 10, 60)  # of audio, whole signals that are timed
    bench.batches = (1, 8)  # of such signals
    bench.max_runs = 7  # of each; of those that take long, 3
    # Ratios that `run.py bench` fails below: (reference, "encode" or "decode", seconds, batch, how
    # many times as fast as the reference at least).
    bench.min_ratios = ()

    config.training = _training()
    return config.lock()


def _training() -> ml_collections.ConfigDict:
    """The recipe of `run.py train`; [A] is audiocraft's `solver/compression` configuration."""
    training = ml_collections.ConfigDict()
    training.seed = 0
    training.num_steps = 600_000  # [E] 4.3: 300 epochs of 2000 updates
    training.batch_size = 64  # crops, of all devices together
    training.crop_seconds = 1.0  # rounded up to whole frames
    # What the networks compute in: "float32" or "bfloat16". Parameters, quantiser and losses
    # are float32 either way.
    training.dtype = "float32"
    # Of the products and convolutions of the networks and of the discriminator: "float32", or
    # "tensorfloat32" where there is a GPU for it; a CPU takes both for float32.
    training.precision = "float32"

    # Adam, of the generator and of the discriminator.
    training.learning_rate = 3e-4
    training.adam_betas = (0.5, 0.9)
    training.schedule = "constant"  # or "cosine", which falls to zero at num_steps
    training.warmup_steps = 0  # the learning rate rises from 0
    # The gradient of the generator is scaled down to this norm; None: never.
    training.max_gradient_norm = config_dict.placeholder(object)
    # Networks that stay as they are in the checkpoint that a run starts from, of "encoder",
    # "quantizer" and "decoder". With the first two the decoder learns, and codes stay the same.
    training.frozen = ()
    # Of the moving average of the generator's parameters, which is what is validated and exported.
    training.average_decay = 0.99  # [A]

    # Weights of the losses: shares of the gradient's norm where the balancer is on ([E] 3.4). 0
    # leaves a loss out.
    losses = training.losses = ml_collections.ConfigDict()
    losses.time_l1 = 0.1
    losses.time_l2 = 0.0
    losses.mel = 1.0
    losses.adversarial = 3.0
    losses.feature = 3.0
    losses.commitment = 0.25  # a factor, outside the balancer
    # Waveforms are compared after x[t] - pre_emphasis * x[t - 1]. 0 as in the paper; near 1, time
    # losses are about all frequencies and not the loud low ones alone.
    training.pre_emphasis = 0.0
    training.mel_windows = (32, 64, 128, 256, 512, 1024, 2048)  # samples, multiples of 4
    training.num_mels = 64
    # None: L1 of the power of bands and L2 of its logarithm [A]; a number: both of the power to
    # this exponent, which weighs quiet bands less than a logarithm and more than the power.
    training.mel_exponent = config_dict.placeholder(object)
    # Added to the power under the logarithm or the exponent: far below it a band may hold anything.
    training.mel_floor = 1e-5  # of a normalised STFT [A]

    balancer = training.balancer = ml_collections.ConfigDict()
    balancer.enabled = True  # False: weights are factors
    balancer.decay = 0.999  # of the moving average of the gradients' norms

    codebooks = training.codebooks = ml_collections.ConfigDict()
    codebooks.decay = 0.99  # of the moving averages
    # Until this step latents are not quantised; then the codebooks start by k-means on its batch.
    codebooks.first_step = 0
    codebooks.kmeans_iterations = 50
    # Entries used less than this share of the average use are restarted. [A]: fewer than 2 of the
    # 64 * 75 vectors of a batch, of 1024 entries.
    codebooks.restart_below = 0.43

    discriminator = training.discriminator = ml_collections.ConfigDict()
    discriminator.num_filters = 32
    discriminator.windows = (2048, 1024, 512, 256, 128)  # samples
    # Of its parameters: "pytorch", the reference's, or "he", with which it learns much sooner.
    discriminator.init = "pytorch"
    # None: the generator's.
    discriminator.learning_rate = config_dict.placeholder(object)
    discriminator.first_step = 0  # until then, no discriminator and no loss of one
    discriminator.update_probability = 2 / 3  # [E] 3.4; 1/2 at 48 kHz

    data = training.data = ml_collections.ConfigDict()
    # Probabilities of one source, and of the sum of two and of three ([E] 4.1).
    data.mix_probabilities = (0.64, 0.24, 0.12)
    data.gain_db = (-10.0, 6.0)  # drawn for every source ([E] 4.1)
    data.num_workers = 4  # processes that read and resample; 0: threads

    training.log_every = 50  # steps
    training.checkpoint_every = 1000  # steps
    training.num_checkpoints = 3  # the latest ones are kept
    training.validate_every = 5000  # steps
    training.validation_items = 16
    training.validation_seconds = 5.0
    return training
