"""ConvNeXt blocks of frames (arXiv 2201.03545), in one dimension as Vocos has them.

A layer maps (x, rows, state) as those of `seanet` do. Convolutions pad with zeros at their own
level: what lies outside a row is zero to each of them. One that is not causal looks
`config.CONVNEXT_KERNEL // 2` frames ahead, and the output of a stream lags by as many.

Shapes: B rows, F frames of a block, C channels.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from encodec_hk.networks import block_rows
from encodec_hk.networks import layer_norm
from encodec_hk.networks import padding

State = Any

INIT = hk.initializers.TruncatedNormal(0.02)


class DepthwiseConv(hk.Module):
    """A convolution of each channel by itself, padded with zeros.

    It is a sum over the taps: XLA's convolution takes a CPU many times longer for single channels.

    Attributes:
      kernel_size: steps (odd).
      causal: whether all padding is on the left.
    """

    def __init__(self, *, kernel_size: int, causal: bool, name: str | None = None):
        super().__init__(name=name)
        self.kernel_size = kernel_size
        self.right = 0 if causal else kernel_size // 2

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: jax.Array | None
    ) -> tuple[jax.Array, block_rows.Rows, jax.Array]:
        """Convolve x [B, F, C] -> [B, F, C], where the rows lie in it, and the next state."""
        _, frames, channels = x.shape
        w = hk.get_parameter("w", (self.kernel_size, channels), x.dtype, INIT)
        b = hk.get_parameter("b", (channels,), x.dtype, jnp.zeros)
        padded, state, lag = padding.pad_block(
            x,
            rows,
            state,
            left=self.kernel_size - 1 - self.right,
            right=self.right,
            stride=1,
            mode="constant",
        )
        taps = (padded[:, tap : tap + frames] * w[tap] for tap in range(self.kernel_size))
        return functools.reduce(operator.add, taps) + b, rows.downsampled(1, lag), state


def blocks(num_layers: int, **fields: Any) -> list[ConvNeXt]:
    """Return the blocks of a network, all with the same fields; see `ConvNeXt`."""
    return [
        ConvNeXt(gain=1 / num_layers, name=f"block_{index}", **fields)
        for index in range(num_layers)
    ]


class ConvNeXt(hk.Module):
    """A block: depthwise convolution, norm, two products with GELU between, plus the shortcut.

    Attributes:
      intermediate: channels between the two products.
      gain: of the branch when its parameters are fresh.
      kernel_size, causal: of the convolution.
      norm, num_norms: which norm to use, of how many.
    """

    def __init__(
        self,
        *,
        intermediate: int,
        gain: float,
        kernel_size: int,
        causal: bool,
        norm: int | jax.Array,
        num_norms: int,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.intermediate = intermediate
        self.gain = gain
        self.kernel_size = kernel_size
        self.causal = causal
        self.norm = norm
        self.num_norms = num_norms

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: State
    ) -> tuple[jax.Array, block_rows.Rows, State]:
        """Map x [B, F, C] -> [B, F, C], where the rows lie in it, and the next state."""
        channels = x.shape[-1]
        before = {"depthwise": None, "delay": None} if state is None else state
        depthwise = DepthwiseConv(
            kernel_size=self.kernel_size, causal=self.causal, name="depthwise"
        )
        y, rows_after, context = depthwise(x, rows, before["depthwise"])
        state = {"depthwise": context}
        y = layer_norm.AdaptiveNorm(num_norms=self.num_norms, name="norm")(y, self.norm)
        y = hk.Linear(self.intermediate, w_init=INIT, name="linear_0")(y)
        y = jax.nn.gelu(y, approximate=False)
        y = hk.Linear(channels, w_init=INIT, name="linear_1")(y)
        gamma = hk.get_parameter("gamma", (channels,), x.dtype, hk.initializers.Constant(self.gain))
        if lag := rows_after.lag - rows.lag:
            x, state["delay"] = block_rows.delay(x, rows, before["delay"], lag)
        return x + gamma * y, rows_after, state
