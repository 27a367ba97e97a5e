"""Every field of a configuration, with the values of the paper's 24 kHz model.

A variant calls `get_config()` and assigns the fields that differ. Flags override any field:

    python run.py describe --config=configs/encodec_24khz.py --config.model.num_filters=16
    python run.py describe --config=configs/encodec_24khz.py --config.model.ratios="(8,8,5)"

If you change the frame rate (sample rate, ratios) or the codebook size, the bandwidth of a code
changes: set `--config.model.bandwidths` and `--config.inference.bandwidth` too.

Sources: [E] Défossez et al., High Fidelity Neural Audio Compression, arXiv:2210.13438, by section;
what the paper does not state is from the code of `encodec` 0.1.1 and `audiocraft`. [V] Siuzdak,
Vocos, arXiv:2306.00814, and the code of `vocos` 0.1.0.
"""

import ml_collections
from ml_collections import config_dict


def get_config() -> ml_collections.ConfigDict:
    """Return the locked base configuration: the paper's causal 24 kHz model."""
    config = ml_collections.ConfigDict()
    config.name = "encodec_24khz"
    # The checkpoint of commands without --checkpoint.
    config.checkpoint = "checkpoints/encodec_24khz.safetensors"

    model = config.model = ml_collections.ConfigDict()
    # Signal.
    model.sample_rate = 24000  # Hz
    model.channels = 1  # 1 mono, 2 stereo
    # True: no output depends on later input, so the model streams ([E] 3.1).
    model.causal = True

    # SEANet encoder and decoder ([E] 3.1).
    # Upsampling factors of the decoder; the encoder downsamples by them in reverse order. Their
    # product is the hop: audio samples per latent frame.
    model.ratios = (8, 5, 4, 2)
    model.num_filters = 32  # channels of the first stage; every ratio doubles them
    model.latent_dim = 128  # channels of the latent and of codebook entries
    model.num_residual_layers = 1  # residual layers per stage
    model.kernel_size = 7  # steps (odd), the first convolution of encoder and decoder
    model.last_kernel_size = 7  # steps (odd), the last convolution of encoder and decoder
    model.residual_kernel_size = 3  # steps (odd), before dilation
    model.dilation_base = 2  # residual layer j of a stage has dilation dilation_base**j
    model.compress = 2  # a residual layer divides its channels by this; must divide num_filters
    model.num_lstm_layers = 2  # 0: no LSTM
    # "weight_norm" (folded into the weights on conversion, so it computes the same as "none"),
    # "time_group_norm" (GroupNorm with one group over the segment) or "none".
    model.norm = "weight_norm"
    model.shortcut = "conv"  # of residual layers: "conv" (1x1 convolution) or "identity"
    model.pad_mode = "reflect"  # of convolutions: "reflect" or "constant" (zeros)

    # Residual vector quantiser ([E] 3.2).
    model.num_codebooks = 32
    model.codebook_size = 1024  # entries, a power of two; a code has log2 of it bits
    # Bandwidths in kbps that the model is trained for; each is a whole number of codebooks.
    model.bandwidths = (1.5, 3.0, 6.0, 12.0, 24.0)

    # Segments, only of models that are not causal ([E] 3.1).
    model.normalize = False  # True: divide each segment by its RMS before the encoder
    # Seconds of a segment; None: no segments. The placeholder has type object because a flag cannot
    # set a float field back to None.
    model.segment_seconds = config_dict.placeholder(object)
    model.overlap = 0.01  # share of a segment that the next one overlaps, in [0, 1)

    # "seanet", or "fourier", which encodes spectra and hears 1.5 times as much audio in training.
    model.encoder = "seanet"
    fourier = model.fourier = ml_collections.ConfigDict()  # of encoder "fourier" alone
    fourier.dim = 256  # channels
    fourier.intermediate = 768  # channels within a block
    fourier.num_layers = 6  # ConvNeXt blocks
    fourier.n_fft = 1280  # samples of a frame's window: a multiple of the hop

    # "seanet", SEANet's encoder mirrored, or "vocos", a Fourier decoder of the same codes [V].
    model.decoder = "seanet"
    vocos = model.vocos = ml_collections.ConfigDict()  # of decoder "vocos" alone
    vocos.dim = 384  # channels
    vocos.intermediate = 1152  # channels within a block
    vocos.num_layers = 8  # ConvNeXt blocks
    vocos.n_fft = 1280  # samples of a frame's window: a multiple of the hop
    # Bandwidths in kbps that it has norms for; any other takes the nearest one's.
    vocos.bandwidths = (1.5, 3.0, 6.0, 12.0)
    # How a value of a spectrum is made: "polar", of a magnitude and a phase as in [V], or
    # "complex", of a gain and a complex number, which learns waveforms sooner.
    vocos.head = "polar"
    # True: convolutions see earlier frames only, and a stream lags by (n_fft - hop) / 2 samples.
    vocos.causal = False

    inference = config.inference = ml_collections.ConfigDict()
    inference.bandwidth = 6.0  # default bandwidth, kbps
    inference.batch_size = 8  # rows of a compiled block per device, at most
    # Seconds of a block of a model without segments. Blocks are longer if an exact start of a
    # stream needs it (`encodec_hk.networks.reach.minimum_first_blocks`).
    inference.block_seconds = 1.0
    # Precision of the decoder: "float32", or on GPUs that have it the faster "tensorfloat32" or
    # "bfloat16". The encoder is always float32, so codes do not depend on it.
    inference.decode_precision = "float32"

    # The language model over the codes (docs/ecdc.md), which `run.py train_language` trains.
    language = config.language = ml_collections.ConfigDict()
    language.width = 128  # channels, at most 512
    language.head_width = 64  # channels of the head of a codebook
    # Frames from a layer's earlier input to its later one, layer by layer.
    language.dilations = (1, 2, 4, 8, 16, 32)
    # Codebooks that it knows, the first ones; codes of more of them are stored without it.
    language.num_codebooks = 8
    # Those of earlier frames that it sees, at most; each has a table of 1024 x width bytes.
    language.context_codebooks = 8

    # Recipe of `run.py train_language`.
    training = language.training = ml_collections.ConfigDict()
    training.seed = 0
    training.num_steps = 5000
    training.rounded_steps = 500  # the last steps, in which every value is rounded as the integers
    training.batch_size = 32  # crops
    training.crop_frames = 75  # of a crop, at most; files begin the model anew about every second
    training.learning_rate = 1.5e-3  # AdamW, with a cosine to 2 % of it
    training.warmup_steps = 50
    training.log_every = 50  # steps
    training.checkpoint_every = 200
    training.validate_every = 500

    bench = config.bench = ml_collections.ConfigDict()
    bench.seconds = (1, 10, 60)  # lengths of the signals to time
    bench.batches = (1, 8)  # batch sizes to time
    bench.max_runs = 7  # runs of each case; 3 if it is slow
    # Minimum speeds, below which `run.py bench` fails: (reference, "encode" or "decode", seconds,
    # batch, speed relative to the reference).
    bench.min_ratios = ()

    config.training = _training()
    return config.lock()


def _training() -> ml_collections.ConfigDict:
    """The recipe of `run.py train`; [A] is audiocraft's `solver/compression` configuration."""
    training = ml_collections.ConfigDict()
    training.seed = 0
    training.num_steps = 600_000  # [E] 4.3: 300 epochs of 2000 updates
    training.batch_size = 64  # crops, on all devices together
    training.crop_seconds = 1.0  # rounded up to whole frames
    # Type that the networks compute in: "float32" or "bfloat16". Parameters, quantiser and losses
    # are always float32.
    training.dtype = "float32"
    # Precision of products and convolutions in networks and discriminator: "float32", or
    # "tensorfloat32" on GPUs that have it; on a CPU both are float32.
    training.precision = "float32"

    # Adam, for generator and discriminator.
    training.learning_rate = 3e-4
    training.adam_betas = (0.5, 0.9)
    training.schedule = "constant"  # or "cosine", which falls to 0 at num_steps
    training.warmup_steps = 0  # steps in which the learning rate rises from 0
    # Maximum norm of the generator's gradient; None: no maximum.
    training.max_gradient_norm = config_dict.placeholder(object)
    # Networks that keep the parameters of the initial checkpoint, of "encoder", "quantizer" and
    # "decoder". With the first two frozen, codes stay the same.
    training.frozen = ()
    # Decay of the moving average of the generator's parameters, which is validated and exported.
    training.average_decay = 0.99  # [A]

    # Weights of the losses; with the balancer, shares of the gradient's norm ([E] 3.4). 0 disables
    # a loss.
    losses = training.losses = ml_collections.ConfigDict()
    losses.time_l1 = 0.1
    losses.time_l2 = 0.0
    losses.mel = 1.0
    losses.stft = 0.0  # log magnitudes of every bin (arXiv:1910.11480)
    losses.adversarial = 3.0
    losses.feature = 3.0
    losses.commitment = 0.25  # a factor, not balanced
    # Time losses compare x[t] - pre_emphasis * x[t - 1]. 0 as in the paper; values near 1 give
    # quieter high frequencies more weight.
    training.pre_emphasis = 0.0
    training.mel_windows = (32, 64, 128, 256, 512, 1024, 2048)  # samples, multiples of 4
    # Bands of every window, or a tuple with those of each. Formants of speech lie 500 Hz and more
    # apart: 64 bands are 600 Hz wide at 10 kHz, 128 half of that. Windows too short for their
    # bands have fewer.
    training.num_mels = config_dict.FieldReference(64, field_type=object)
    # None: L1 of the bands' power and L2 of its logarithm [A]. A number: L1 and L2 of the power to
    # this exponent, which gives quiet bands less weight than a logarithm and more than the power;
    # 0: L1 and L2 of the logarithm.
    training.mel_exponent = config_dict.placeholder(object)
    # Added to the power under the logarithm or exponent: bands far below it do not count.
    training.mel_floor = 1e-5  # of a normalised STFT [A]
    training.stft_windows = (512, 1024, 2048)  # samples, multiples of 4; of losses.stft
    training.stft_floor = 1e-5  # as mel_floor, of every bin
    # What draws a bandwidth of the variant's list: "batch", one for all, or "crop", each its own.
    training.bandwidth_per = "batch"

    balancer = training.balancer = ml_collections.ConfigDict()
    balancer.enabled = True  # False: the weights are factors
    balancer.decay = 0.999  # of the moving averages of the gradients' norms

    codebooks = training.codebooks = ml_collections.ConfigDict()
    codebooks.decay = 0.99  # of the moving averages
    # Before this step latents are not quantised; its batch initialises the codebooks by k-means.
    # At most a quarter of num_steps counts, so that short runs have codebooks too.
    codebooks.first_step = 0
    codebooks.kmeans_iterations = 50
    # Entries are restarted if their use is below this share of the average. [A]: below 2 of the
    # 64 * 75 vectors of a batch, with 1024 entries.
    codebooks.restart_below = 0.43

    discriminator = training.discriminator = ml_collections.ConfigDict()
    discriminator.num_filters = 32
    discriminator.windows = (2048, 1024, 512, 256, 128)  # samples
    # Initial parameters: "pytorch" as in the reference, or "he", with which it learns much faster.
    discriminator.init = "pytorch"
    discriminator.learning_rate = config_dict.placeholder(object)  # None: as the generator
    discriminator.first_step = 0  # before it, there is no discriminator and no loss from it
    discriminator.update_probability = 2 / 3  # [E] 3.4; 1/2 at 48 kHz

    data = training.data = ml_collections.ConfigDict()
    # Probabilities of one source, of a mixture of two and of three ([E] 4.1).
    data.mix_probabilities = (0.64, 0.24, 0.12)
    data.gain_db = (-10.0, 6.0)  # range of a source's random gain ([E] 4.1)
    # For frozen encoder and quantiser: this many batches repeat in their order, and their codes are
    # kept in memory (2.4 kB for a second at 16 codebooks) instead of computed again. None: every
    # batch is new.
    data.repeated_batches = config_dict.placeholder(object)
    data.num_workers = 4  # processes that read and resample; 0: threads instead

    training.log_every = 50  # steps
    training.checkpoint_every = 1000  # steps
    training.num_checkpoints = 3  # kept, the latest ones
    training.validate_every = 5000  # steps
    training.validation_items = 16
    training.validation_seconds = 5.0
    return training
