"""The multi-scale STFT discriminator (Section 3.4 and Figure 2 of arXiv 2210.13438).

Each scale judges the complex spectrogram of one channel of audio, with windows of one length:

    [real, imaginary] -> conv 3 x 9 -> conv 3 x 9, every second bin; dilated by 1, 2, 4 frames
                      -> conv 3 x 3 -> conv 3 x 3 to one logit for every place

with a LeakyReLU after every layer but the last. Weight normalisation is applied to the parameters
(`weight_norm`).

Shapes: B items, T samples, C audio channels, N frames and M bins of a spectrogram, D filters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import chex
import haiku as hk
import jax
import jax.numpy as jnp

from encodec_hk.training import spectrogram

DILATIONS = (1, 2, 4)  # frames, of the strided layers
INITS = ("pytorch", "he")
_LOUDNESS = 0.1  # a typical RMS of audio

Params = Mapping[str, Mapping[str, jax.Array]]


class Judgement(NamedTuple):
    """The output of one scale for B items of C channels; the channels of an item are adjacent.

    Attributes:
      logits: [B * C, N, M', 1], above 0 where the audio is judged to be real.
      features: the outputs of all layers but the last, [B * C, N, M'', D].
    """

    logits: jax.Array
    features: list[jax.Array]


class Discriminator(NamedTuple):
    """Pure functions of one discriminator.

    Attributes:
      init: (rng key) -> params, drawn at random: "stft_WINDOW/conv_LAYER" {w, b}.
      apply: (params, audio [B, T, C]) -> a `Judgement` for every window. Raises ValueError if T is
        shorter than the longest window.
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[[Params, jax.Array], list[Judgement]]


def build(
    *,
    channels: int = 1,
    num_filters: int = 32,
    windows: Sequence[int] = (2048, 1024, 512, 256, 128),
    slope: float = 0.2,
    init: str = "pytorch",
) -> Discriminator:
    """Build a discriminator; equal arguments give the same functions.

    Source: `MultiScaleSTFTDiscriminator` of Meta's encodec, with the windows of the paper (at 48
    kHz the paper doubles them). audiocraft's configuration has a slope of 0.3.

    Args:
      channels: C, of the audio. Each is judged alone, by the same parameters.
      num_filters: D, of every layer but the last.
      windows: samples of each STFT window, multiples of 4; the hop is a quarter.
      slope: of the LeakyReLU below 0.
      init: how parameters are drawn. "pytorch" as in the reference: every layer shrinks the
        variance of audio, and biases outweigh it, so it takes hundreds of steps before logits
        differ. "he" (arXiv 1502.01852, fan in, no biases) keeps the variance, at about 1.

    Raises:
      ValueError: if an argument is not allowed.
    """
    windows = tuple(windows)
    if not windows or len(set(windows)) < len(windows):
        raise ValueError(f"windows: got {windows}, must be at least one, and all different")
    for name, value in {"channels": channels, "num_filters": num_filters}.items():
        if value < 1:
            raise ValueError(f"{name}: got {value}, must be at least 1")
    if init not in INITS:
        raise ValueError(f"init: got {init!r}, must be one of {', '.join(INITS)}")
    return _build(channels, num_filters, windows, slope, init)


@functools.lru_cache(maxsize=64)
def _build(
    channels: int, num_filters: int, windows: tuple[int, ...], slope: float, init: str
) -> Discriminator:
    def judge(audio: jax.Array) -> list[Judgement]:
        chex.assert_shape(audio, (None, None, channels))
        return [
            ScaleDiscriminator(
                window=window,
                num_filters=num_filters,
                slope=slope,
                init=init,
                name=f"stft_{window}",
            )(audio)
            for window in windows
        ]

    network = hk.without_apply_rng(hk.transform(judge))

    def draw(key: jax.Array) -> Params:
        return network.init(key, jnp.zeros((1, max(windows), channels), jnp.float32))

    return Discriminator(draw, network.apply)


class ScaleDiscriminator(hk.Module):
    """The discriminator of one STFT.

    Attributes:
      window: samples of the STFT's window.
      num_filters: D.
      slope: of the LeakyReLU below 0.
      init: how parameters are drawn, see `build`.
    """

    def __init__(
        self,
        *,
        window: int,
        num_filters: int,
        slope: float,
        init: str = "pytorch",
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.window = window
        self.num_filters = num_filters
        self.slope = slope
        self.gain = None if init == "pytorch" else (2 / (1 + slope**2)) ** 0.5

    def __call__(self, audio: jax.Array) -> Judgement:
        """Judge every channel of audio [B, T, C]."""
        z = spectrogram.stft(audio, self.window)
        z = z.reshape(-1, *z.shape[2:])  # [B * C, N, M]
        x = jnp.stack([z.real, z.imag], axis=-1)
        layers = [
            ((3, 9), 1, 1),
            *(((3, 9), 2, dilation) for dilation in DILATIONS),
            ((3, 3), 1, 1),
        ]
        features = []
        for index, (kernel_shape, stride, dilation) in enumerate(layers):
            x = Conv2D(
                channels=self.num_filters,
                kernel_shape=kernel_shape,
                stride=stride,
                dilation=dilation,
                gain=self.gain and (self.gain if index else self.gain / _LOUDNESS),
                name=f"conv_{index}",
            )(x)
            x = jax.nn.leaky_relu(x, self.slope)
            features.append(x)
        logits = Conv2D(
            channels=1, kernel_shape=(3, 3), gain=self.gain, name=f"conv_{len(layers)}"
        )(x)
        return Judgement(logits, features)


class Conv2D(hk.Module):
    """A convolution over frames and bins, padded with zeros.

    Attributes:
      channels: output channels.
      kernel_shape: frames and bins of the kernel, both odd.
      stride: in bins.
      dilation: in frames.
      gain: of fresh weights, with biases of zero; None for PyTorch's default of both.
    """

    def __init__(
        self,
        *,
        channels: int,
        kernel_shape: tuple[int, int],
        stride: int = 1,
        dilation: int = 1,
        gain: float | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.channels = channels
        self.kernel_shape = kernel_shape
        self.stride = stride
        self.dilation = dilation
        self.gain = gain

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolve x [B, N, M, C] to [B, N, ceil(M / stride), channels]."""
        chex.assert_rank(x, 4)
        frames, bins = self.kernel_shape
        scale = (frames * bins * x.shape[-1]) ** -0.5
        if self.gain is None:
            w_init = b_init = hk.initializers.RandomUniform(-scale, scale)
        else:
            w_init, b_init = hk.initializers.RandomNormal(self.gain * scale), jnp.zeros
        shape = (frames, bins, x.shape[-1], self.channels)
        w = hk.get_parameter("w", shape, x.dtype, w_init)
        b = hk.get_parameter("b", (self.channels,), x.dtype, b_init)
        return conv(x, w, stride=self.stride, dilation=self.dilation) + b


def conv(x: jax.Array, w: jax.Array, *, stride: int = 1, dilation: int = 1) -> jax.Array:
    """Convolve with padding of zeros, strided over bins and dilated over frames.

    Blocks of bins become channels of a convolution with stride 1: the gradient of a strided
    convolution is a dilated one, 3 to 4 times slower on a CPU. With few filters, a block gives two
    output bins, to fill the CPU's vectors:

        bins      0  a  b  c | d  e  f  g | ...      (stride 2, kernel 3; the 0 is padding)
        first     ^--^--^
        second          ^--^---^

    Args:
      x: [B, N, M, C].
      w: [kernel frames, kernel bins, C, D], both kernels odd.
      stride: in bins.
      dilation: in frames.

    Returns:
      [B, N, ceil(M / stride), D].
    """
    batch, frames, bins, channels = x.shape
    kernel_frames, kernel_bins, _, features = w.shape
    half = kernel_bins // 2
    outputs = -(-bins // stride)
    group = 2 if features <= 8 else 1  # output bins of a block
    block = group * stride
    margin = half
    if block > 1:
        kernel = -(-(kernel_bins + (group - 1) * stride) // block)  # in blocks
        size = (-(-outputs // group) - 1 + kernel) * block
        around = ((0, 0, 0), (0, 0, 0), (half, size - half - bins, 0), (0, 0, 0))
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), around)  # cuts off bins that no output reads
        x = x.reshape(batch, frames, -1, block * channels)
        room = kernel * block - kernel_bins
        shifted = [
            jnp.pad(w, ((0, 0), (i * stride, room - i * stride), (0, 0), (0, 0)))
            for i in range(group)
        ]
        w = jnp.stack(shifted, axis=3)
        w = w.reshape(kernel_frames, kernel, block * channels, group * features)
        margin = 0
    ends = kernel_frames // 2 * dilation
    y = jax.lax.conv_general_dilated(
        x,
        w,
        window_strides=(1, 1),
        padding=((ends, ends), (margin, margin)),
        rhs_dilation=(dilation, 1),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(batch, frames, -1, features)[:, :, :outputs]
