"""The LSTM between the convolutions, with its skip connection.

Shapes: B rows, F frames of the block, D width.
"""

from __future__ import annotations

import chex
import haiku as hk
import jax
import jax.numpy as jnp

from encodec_hk.layers import rows as rows_lib

LSTMState = tuple[jax.Array, jax.Array]  # h and c, each [B, D]


class LSTM(hk.Module):
    """A stack of LSTM layers, with one skip around all of them (Section 3.1).

    Equal to `torch.nn.LSTM(D, D, num_layers)`: gates in the order i, f, g, o, its two bias vectors
    added into one. The product with the input is one matrix product for all frames; only the
    product with h is in the scan. Frames outside a row leave its h and c as they are.
    """

    def __init__(self, *, num_layers: int, name: str | None = None):
        super().__init__(name=name)
        self.num_layers = num_layers

    def __call__(
        self, x: jax.Array, rows: rows_lib.Rows, state: dict[str, LSTMState] | None
    ) -> tuple[jax.Array, rows_lib.Rows, dict[str, LSTMState]]:
        """Runs x [B, F, D] through the layers -> [B, F, D], the rows, each layer's state."""
        chex.assert_rank(x, 3)
        y = x
        next_state = {}
        for index in range(self.num_layers):
            name = f"layer_{index}"
            layer = LSTMLayer(name=name)
            y, next_state[name] = layer(y, rows, None if state is None else state[name])
        return x + y, rows, next_state


class LSTMLayer(hk.Module):
    """One LSTM layer over the frames of a block. See `LSTM`."""

    def __call__(
        self, x: jax.Array, rows: rows_lib.Rows, state: LSTMState | None
    ) -> tuple[jax.Array, LSTMState]:
        """Runs x [B, F, D] through the layer -> [B, F, D] and its state."""
        batch, frames, width = x.shape
        init = hk.initializers.RandomUniform(-(width**-0.5), width**-0.5)
        w_i = hk.get_parameter("w_i", (width, 4 * width), x.dtype, init)
        w_h = hk.get_parameter("w_h", (width, 4 * width), x.dtype, init)
        b = hk.get_parameter("b", (4 * width,), x.dtype, init)
        zeros = jnp.zeros((batch, width), x.dtype)
        h, c = (zeros, zeros) if state is None else state
        fresh = rows.start[:, None] >= 0
        h, c = jnp.where(fresh, 0.0, h), jnp.where(fresh, 0.0, c)

        gates = jnp.matmul(x, w_i, precision=jax.lax.Precision.HIGHEST) + b  # [B, F, 4D]
        inside = rows.mask(frames)

        def step(
            carry: LSTMState, inputs: tuple[jax.Array, jax.Array]
        ) -> tuple[LSTMState, jax.Array]:
            h, c = carry
            gates, keep = inputs
            gates = gates + jnp.matmul(h, w_h, precision=jax.lax.Precision.HIGHEST)
            i, f, g, o = jnp.split(gates, 4, axis=-1)
            new_c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            new_h = jax.nn.sigmoid(o) * jnp.tanh(new_c)
            return (jnp.where(keep, new_h, h), jnp.where(keep, new_c, c)), new_h

        by_frame = (jnp.swapaxes(gates, 0, 1), jnp.swapaxes(inside, 0, 1))
        last, y = jax.lax.scan(step, (h, c), by_frame)
        return jnp.swapaxes(y, 0, 1), last
