"""Convolutions over blocks of rows, causal with a carried state or over whole rows.

Shapes: B rows, T time steps of the block, C channels.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Sequence
from typing import Any

import chex
import haiku as hk
import jax
import jax.numpy as jnp

from encodec_hk.networks import block_rows
from encodec_hk.networks import group_norm
from encodec_hk.networks import padding

_FEW = 2  # channels of audio


def conv(x: jax.Array, w: jax.Array, *, stride: int = 1, dilation: int = 1) -> jax.Array:
    """A convolution without padding: x [B, T, C], w [kernel, C, D] -> [B, T', D].

    A kernel of whole strides runs as a convolution of stride 1 over blocks of a stride: the
    gradient of a strided convolution would be a dilated one, up to 3.5 times slower on CPU. A
    single output, as the deep layers have for a frame of a stream, is a product of a vector with
    the weights as they lie in memory, which a convolution would copy first. With one or two
    channels in, or out, as at the audio's side, a convolution is two to four times slower on CPU
    than a sum of products. On a GPU, exact float32 runs as one product (`_product_conv`).
    """
    kernel_size, channels, features = w.shape
    if stride == dilation == 1 and kernel_size > 1 and min(channels, features) <= _FEW:
        return _conv_of_few(x, w)
    if x.shape[0] == 1 and x.shape[1] == kernel_size and dilation == 1:
        w = w.reshape(-1, features)
        return jnp.matmul(x.reshape(1, 1, -1), w)
    if stride > 1 and dilation == 1 and kernel_size % stride == 0:
        batch, steps, _ = x.shape
        x = x[:, : steps // stride * stride].reshape(batch, -1, stride * channels)
        w = w.reshape(kernel_size // stride, stride * channels, features)
        stride = 1
    if stride == 1 and _is_exact_on_gpu(x.dtype):
        return _product_conv(x, w, dilation)
    if stride == kernel_size == 1:
        return _pointwise_conv(x, w)
    return _plain_conv(x, w, stride, dilation)


def _plain_conv(x: jax.Array, w: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        w,
        window_strides=(stride,),
        padding="VALID",
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )


def _is_exact_on_gpu(dtype: jnp.dtype) -> bool:
    """Whether products of this type are to be float32 to the last bit, and a GPU computes them."""
    config: Any = jax.config
    is_exact = config.jax_default_matmul_precision in ("float32", "highest")
    return is_exact and dtype == jnp.float32 and jax.default_backend() == "gpu"


def _product_conv(x: jax.Array, w: jax.Array, dilation: int) -> jax.Array:
    """A convolution of stride 1 as one product of the taps side by side with the weights.

    cuDNN convolves float32 with channels first alone, and transposes everything before and after.
    """
    kernel_size, _, features = w.shape
    steps = x.shape[1] - (kernel_size - 1) * dilation
    starts = range(0, kernel_size * dilation, dilation)
    taps = jnp.concatenate([x[:, start : start + steps] for start in starts], axis=-1)
    return jnp.matmul(taps, w.reshape(-1, features))


@jax.custom_vjp
def _pointwise_conv(x: jax.Array, w: jax.Array) -> jax.Array:
    """A convolution of kernel 1, whose gradients are products.

    That of the weights is taken by row: as a convolution, or as one product over all rows, XLA
    transposes both factors first, which takes up to four times as long on CPU.
    """
    return _plain_conv(x, w)


def _pointwise_conv_forward(
    x: jax.Array, w: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _plain_conv(x, w), (x, w)


def _pointwise_conv_backward(
    saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    wide = jnp.promote_types(w.dtype, jnp.float32)
    dw = jnp.einsum("btc,btd->bcd", x, dy, preferred_element_type=wide)
    return jnp.matmul(dy, w[0].T), dw.sum(0)[None].astype(w.dtype)


_pointwise_conv.defvjp(_pointwise_conv_forward, _pointwise_conv_backward)


def _conv_of_few(x: jax.Array, w: jax.Array) -> jax.Array:
    """A convolution with few channels in or out, as a sum over its taps."""
    kernel_size, channels, features = w.shape
    steps = x.shape[1] - kernel_size + 1
    taps = range(kernel_size)
    if channels <= _FEW:
        parts = [
            jnp.matmul(x[:, tap : tap + steps, c : c + 1], w[tap, c : c + 1])
            for tap in taps
            for c in range(channels)
        ]
    else:  # all taps in one product, which reads the many channels once
        y = jnp.matmul(x, jnp.swapaxes(w, 0, 1).reshape(channels, -1))
        parts = [y[:, t : t + steps, t * features : (t + 1) * features] for t in taps]
    return functools.reduce(operator.add, parts)


class Conv(hk.Module):
    """A convolution with EnCodec's padding, and optionally its normalisation.

    Source: `SConv1d` of Meta's encodec. Of the padding of `kernel - stride` (dilated kernel) steps
    a causal convolution puts all to the left, any other the smaller half to the right; what fills
    the last stride is added on the right.

    Attributes:
      channels: output channels.
      kernel_size, stride, dilation: of the convolution.
      left, right: steps of padding before and after a row. Where right is above 0 and rows go on
        from block to block, what comes out lags.
      norm: "time_group_norm" (of whole rows), or what is folded into the weights: "weight_norm",
        "none".
      pad_mode: "reflect" or "constant".
      gain: of fresh weights.
    """

    def __init__(
        self,
        *,
        channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        causal: bool,
        norm: str,
        pad_mode: str,
        gain: float = 1.0,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.channels = channels
        self.kernel_size = kernel_size
        self.gain = gain
        self.stride = stride
        self.dilation = dilation
        self.norm = norm
        self.pad_mode = pad_mode
        total = (kernel_size - 1) * dilation + 1 - stride
        if total < 0:
            raise ValueError(f"kernel_size: got {kernel_size}, must be at least stride ({stride})")
        self.right = 0 if causal else total // 2
        self.left = total - self.right

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: jax.Array | None = None
    ) -> tuple[jax.Array, block_rows.Rows, jax.Array]:
        """Convolves x [B, T, C].

        Returns:
          [B, T / stride, channels], where the rows lie in it, and the context of the next block.
        """
        chex.assert_rank(x, 3)
        batch, steps, _ = x.shape
        first = self.left // self.dilation
        taps = slice(first, first + self.stride)
        w, b = _weights(self.kernel_size, x.shape[-1], self.channels, x.dtype, taps, gain=self.gain)
        padded, state, lag = padding.pad_block(
            x,
            rows,
            state,
            left=self.left,
            right=self.right,
            stride=self.stride,
            mode=self.pad_mode,
        )
        rows = rows.downsampled(self.stride, lag)
        y = conv(padded, w, stride=self.stride, dilation=self.dilation) + b
        chex.assert_shape(y, (batch, steps // self.stride, self.channels))
        if self.norm == "time_group_norm":
            y = group_norm.TimeGroupNorm(name="norm")(y, rows.mask(y.shape[1]))
        return y, rows, state


class ConvTranspose(hk.Module):
    """A transposed convolution of kernel 2 x stride, trimmed to `stride` outputs a step.

    Source: `SConvTranspose1d` of Meta's encodec with trim_right_ratio 1. Every output depends on
    two neighbouring inputs, so it is a convolution of kernel 2 to stride x channels outputs whose
    rows are then laid one after the other (polyphase form):

        y[j * stride + m] = w[1][:, m] x[j] + w[0][:, m] x[j - 1]

    The parameter `w` is kept in that form, [2, C, stride * channels].

    Attributes:
      channels: output channels.
      stride: outputs for every input.
      causal: whether the trim is all on the right. Otherwise the larger half is on the left, which
        makes outputs lag where rows go on from block to block.
      norm: as in `Conv`. The normalisation comes before the trim.
    """

    def __init__(
        self, *, channels: int, stride: int, causal: bool, norm: str, name: str | None = None
    ):
        super().__init__(name=name)
        self.channels = channels
        self.stride = stride
        self.causal = causal
        self.norm = norm

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: jax.Array | None = None
    ) -> tuple[jax.Array, block_rows.Rows, jax.Array]:
        """Maps x [B, T, C].

        Returns:
          [B, T * stride, channels], where the rows lie in it, and the last step [B, 1, C].
        """
        chex.assert_rank(x, 3)
        batch, steps, in_channels = x.shape
        features = self.stride * self.channels
        w, b = _weights(2, in_channels, features, x.dtype, slice(1, 2), bias=self.channels)
        trim = 0 if self.causal else self.stride - self.stride // 2
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
        y = conv(x, w).reshape(batch, -1, self.channels) + b
        if self.norm == "time_group_norm":
            full = dataclasses.replace(rows, end=rows.end + 1, stop=rows.stop + 1)
            y = group_norm.TimeGroupNorm(name="norm")(
                y, full.upsampled(self.stride).mask(y.shape[1])
            )
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
    """The parameters w [kernel, channels, features] and b [bias].

    Fresh weights are orthogonal on `taps`, which read what is new to an output, and zero on those
    that reach into what is around (delta-orthogonal, arXiv 1806.05393), with outputs of a standard
    deviation of `gain` for inputs of 1. A network of them hands all directions of a signal through
    alike, as far as they fit into its latents. Layers of random taps, one after the other, keep a
    few directions, and training has to win back the rest one by one.
    """

    def init(shape: Sequence[int], dtype: jnp.dtype) -> jax.Array:
        rows = (taps.stop - taps.start) * channels
        matrix = hk.initializers.Orthogonal(axis=0)((features, rows), dtype).T
        matrix *= gain * max(1.0, features / rows) ** 0.5
        return jnp.zeros(shape, dtype).at[taps].set(matrix.reshape(-1, channels, features))

    w = hk.get_parameter("w", (kernel_size, channels, features), dtype, init)
    b = hk.get_parameter("b", (features if bias is None else bias,), dtype, jnp.zeros)
    return w, b
