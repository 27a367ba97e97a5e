"""Convolutions over blocks of rows, causal with a carried state or over whole rows.

Shapes: B rows, T time steps of the block, C channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import chex
import haiku as hk
import jax
import jax.numpy as jnp

from encodec_hk.networks import activation
from encodec_hk.networks import block_rows
from encodec_hk.networks import group_norm
from encodec_hk.networks import kernels
from encodec_hk.networks import padding


@dataclasses.dataclass(frozen=True)
class ConvSettings:
    """What all convolutions of a network share.

    Attributes:
      causal: whether no output depends on later input.
      norm: "time_group_norm" (over whole rows), or, folded into the weights, "weight_norm" or
        "none".
      pad_mode: "reflect" or "constant".
      convolve: the lowering, of `kernels.convolution`.
    """

    causal: bool
    norm: str
    pad_mode: str
    convolve: kernels.Convolution


class Conv(hk.Module):
    """A convolution with EnCodec's padding, and optionally an activation and a normalisation.

    Source: `SConv1d` of Meta's encodec. Padding is `kernel - stride` (dilated kernel) steps. A
    causal convolution has all of them on the left, any other the smaller half on the right; what
    fills the last stride is added on the right.

    Attributes:
      channels: output channels.
      kernel_size, stride, dilation: of the convolution.
      left, right: steps of padding before and after a row. If right is above 0 and rows go on from
        block to block, the output lags.
      activate: whether the input goes through ELU first.
      settings: shared by all convolutions of a network.
      gain: of fresh weights.
    """

    def __init__(
        self,
        *,
        channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        activate: bool = True,
        settings: ConvSettings,
        gain: float = 1.0,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.channels = channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        self.activate = activate
        self.settings = settings
        self.gain = gain
        total = (kernel_size - 1) * dilation + 1 - stride
        if total < 0:
            raise ValueError(f"kernel_size: got {kernel_size}, must be at least stride ({stride})")
        self.right = 0 if settings.causal else total // 2
        self.left = total - self.right

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: jax.Array | None = None
    ) -> tuple[jax.Array, block_rows.Rows, jax.Array]:
        """Convolve x [B, T, C].

        Returns:
          [B, T / stride, channels], where the rows lie in it, and the context of the next block.
        """
        chex.assert_rank(x, 3)
        batch, steps, _ = x.shape
        first = self.left // self.dilation
        taps = slice(first, first + self.stride)
        w, b = _weights(self.kernel_size, x.shape[-1], self.channels, x.dtype, taps, gain=self.gain)
        padded, state, lag = padding.pad_block(
            activation.elu(x) if self.activate else x,
            rows,
            state,
            left=self.left,
            right=self.right,
            stride=self.stride,
            mode=self.settings.pad_mode,
        )
        rows = rows.downsampled(self.stride, lag)
        y = self.settings.convolve(padded, w, self.stride, self.dilation) + b
        chex.assert_shape(y, (batch, steps // self.stride, self.channels))
        if self.settings.norm == "time_group_norm":
            y = group_norm.TimeGroupNorm(name="norm")(y, rows.mask(y.shape[1]))
        return y, rows, state


class ConvTranspose(hk.Module):
    """A transposed convolution of kernel 2 x stride, trimmed to `stride` outputs a step.

    Source: `SConvTranspose1d` of Meta's encodec with trim_right_ratio 1. Every output depends on
    two neighbouring inputs, so it is a convolution of kernel 2 to stride x channels outputs whose
    rows are then laid one after the other (polyphase form):

        y[j * stride + m] = w[1][:, m] x[j] + w[0][:, m] x[j - 1]

    The parameter `w` has that form, [2, C, stride * channels]. The normalisation comes before the
    trim. A causal trim is all on the right. Any other has its larger half on the left, which makes
    the output lag if rows go on from block to block.

    Attributes:
      channels: output channels.
      stride: outputs for every input.
      activate, settings: as in `Conv`.
    """

    def __init__(
        self,
        *,
        channels: int,
        stride: int,
        activate: bool = True,
        settings: ConvSettings,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.channels = channels
        self.stride = stride
        self.activate = activate
        self.settings = settings

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: jax.Array | None = None
    ) -> tuple[jax.Array, block_rows.Rows, jax.Array]:
        """Map x [B, T, C].

        Returns:
          [B, T * stride, channels], where the rows lie in it, and the last step [B, 1, C].
        """
        chex.assert_rank(x, 3)
        batch, steps, in_channels = x.shape
        x = activation.elu(x) if self.activate else x
        features = self.stride * self.channels
        w, b = _weights(2, in_channels, features, x.dtype, slice(1, 2), bias=self.channels)
        trim = 0 if self.settings.causal else self.stride - self.stride // 2
        if state is None:
            state = jnp.zeros((batch, 1, in_channels), x.dtype)
        if rows.is_full:
            x = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))
        else:
            # Zeros lie before a row and after it.
            state = jnp.where(rows.start[:, None, None] >= 0, 0.0, state)
            x = jnp.concatenate([state, jnp.where(rows.mask(steps), x, 0.0)], axis=1)
            state = block_rows.time_slice(x, rows.stop, 1)
        if trim and rows.is_whole:  # the full output goes one step past the row
            x = jnp.pad(x, ((0, 0), (0, 1), (0, 0)))
        y = self.settings.convolve(x, w).reshape(batch, -1, self.channels) + b
        if self.settings.norm == "time_group_norm":
            full = dataclasses.replace(rows, end=rows.end + 1, stop=rows.stop + 1)
            mask = full.upsampled(self.stride).mask(y.shape[1])
            y = group_norm.TimeGroupNorm(name="norm")(y, mask)
        if trim and rows.is_whole:
            y = y[:, trim : trim + steps * self.stride]
        chex.assert_shape(y, (batch, steps * self.stride, self.channels))
        # What is not cut off is a lag.
        rows = rows.upsampled(self.stride, 0 if rows.is_whole else trim)
        return y, rows, state


def _weights(
    kernel_size: int,
    channels: int,
    features: int,
    dtype: jnp.dtype,
    taps: slice,
    *,
    gain: float = 1.0,
    bias: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Return the parameters w [kernel, channels, features] and b [bias].

    Fresh weights are orthogonal on `taps`, which read the input that is new to an output, and zero
    on the taps around them (delta-orthogonal, arXiv 1806.05393). Inputs of standard deviation 1
    give outputs of standard deviation `gain`. Such layers pass all directions of a signal alike, as
    far as they fit into the latents. Layers of random taps keep a few directions only, and training
    has to recover the rest.
    """

    def init(shape: Sequence[int], dtype: jnp.dtype) -> jax.Array:
        rows = (taps.stop - taps.start) * channels
        matrix = hk.initializers.Orthogonal(axis=0)((features, rows), dtype).T
        matrix *= gain * max(1.0, features / rows) ** 0.5
        return jnp.zeros(shape, dtype).at[taps].set(matrix.reshape(-1, channels, features))

    w = hk.get_parameter("w", (kernel_size, channels, features), dtype, init)
    b = hk.get_parameter("b", (features if bias is None else bias,), dtype, jnp.zeros)
    return w, b
