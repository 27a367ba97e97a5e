"""Convolutions over blocks of rows, causal with a carried state or over whole rows.

Shapes: B rows, T time steps of the block, C channels.
"""

from __future__ import annotations

import chex
import haiku as hk
import jax
import jax.numpy as jnp

from encodec_hk.layers import norm as norm_lib
from encodec_hk.layers import padding
from encodec_hk.layers import rows as rows_lib


def conv(x: jax.Array, w: jax.Array, *, stride: int = 1, dilation: int = 1) -> jax.Array:
    """A convolution without padding: x [B, T, C], w [kernel, C, D] -> [B, T', D]."""
    return jax.lax.conv_general_dilated(
        x,
        w,
        window_strides=(stride,),
        padding="VALID",
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
        precision=jax.lax.Precision.HIGHEST,
    )


class Conv(hk.Module):
    """A convolution with EnCodec's padding, and optionally its normalisation.

    Source: `SConv1d` of Meta's encodec. Of the padding of `kernel - stride` (dilated kernel) steps
    a causal convolution puts all to the left, any other the smaller half to the right; what fills
    the last stride is added on the right.

    Attributes:
      channels: output channels.
      kernel_size, stride, dilation: of the convolution.
      causal: whether outputs depend on the past alone. Others need whole rows, and no state.
      norm: "time_group_norm", or what is folded into the weights: "weight_norm", "none".
      pad_mode: "reflect" or "constant".
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
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.channels = channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        self.norm = norm
        self.pad_mode = pad_mode
        total = (kernel_size - 1) * dilation + 1 - stride
        self.right = 0 if causal else total // 2
        self.left = total - self.right

    def __call__(
        self, x: jax.Array, rows: rows_lib.Rows, state: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Convolves x [B, T, C] -> [B, T / stride, channels], and the state for the next block.

        The state is the context: [B, left, C].
        """
        chex.assert_rank(x, 3)
        batch, steps, _ = x.shape
        w, b = _weights(self.kernel_size, x.shape[-1], self.channels, x.dtype)
        padded, state = padding.pad_block(
            x,
            rows,
            state,
            left=self.left,
            right=self.right,
            stride=self.stride,
            mode=self.pad_mode,
        )
        y = conv(padded, w, stride=self.stride, dilation=self.dilation) + b
        chex.assert_shape(y, (batch, steps // self.stride, self.channels))
        if self.norm == "time_group_norm":
            mask = rows.downsampled(self.stride).mask(y.shape[1])
            y = norm_lib.TimeGroupNorm(name="norm")(y, mask)
        return y, state


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
      causal, norm: as in `Conv`. The normalisation comes before the trim.
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
        self, x: jax.Array, rows: rows_lib.Rows, state: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Maps x [B, T, C] -> [B, T * stride, channels], and the state: the last step [B, 1, C]."""
        chex.assert_rank(x, 3)
        batch, steps, in_channels = x.shape
        w, b = _weights(2, in_channels, self.stride * self.channels, x.dtype, bias=self.channels)
        before = jnp.zeros((batch, 1, in_channels), x.dtype)
        if state is not None:
            chex.assert_equal_shape([state, before])
            before = jnp.where(rows.first[:, None, None], before, state)
        if not self.causal:  # the full output goes one step past the row
            x = jnp.where(rows.mask(steps), x, 0.0)
            x = jnp.concatenate([x, jnp.zeros_like(before)], axis=1)
        x = jnp.concatenate([before, x], axis=1)
        y = conv(x, w).reshape(batch, -1, self.channels) + b
        if self.norm == "time_group_norm":
            full = rows._replace(length=rows.length + 1).upsampled(self.stride)
            y = norm_lib.TimeGroupNorm(name="norm")(y, full.mask(y.shape[1]))
        if not self.causal:
            trim = self.stride - self.stride // 2
            y = y[:, trim : trim + steps * self.stride]
        chex.assert_shape(y, (batch, steps * self.stride, self.channels))
        return y, rows_lib.time_slice(x, rows.length, 1)


def _weights(
    kernel_size: int, channels: int, features: int, dtype: jnp.dtype, bias: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """The parameters w [kernel, channels, features] and b [bias], uniform by what they sum over."""
    limit = (kernel_size * channels) ** -0.5
    init = hk.initializers.RandomUniform(-limit, limit)
    w = hk.get_parameter("w", (kernel_size, channels, features), dtype, init)
    b = hk.get_parameter("b", (features if bias is None else bias,), dtype, init)
    return w, b
