"""The LSTM between the convolutions, with its skip connection.

Shapes: B rows, F frames of the block, D width.
"""

from __future__ import annotations

import chex
import haiku as hk
import jax
import jax.numpy as jnp

from encodec_hk.networks import block_rows

LSTMState = tuple[jax.Array, jax.Array]  # h and c, each [B, D]


class LSTM(hk.Module):
    """A stack of LSTM layers with one skip connection around all of them (Section 3.1).

    Equal to `torch.nn.LSTM(D, D, num_layers)` with gates in the order i, f, g, o and its two bias
    vectors added into one. The product with the input is one matrix product for all frames; only
    the product with h is in the scan. Frames outside a row leave its h and c unchanged.
    """

    def __init__(self, *, num_layers: int, name: str | None = None):
        super().__init__(name=name)
        self.num_layers = num_layers

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: dict[str, LSTMState] | None
    ) -> tuple[jax.Array, block_rows.Rows, dict[str, LSTMState]]:
        """Run x [B, F, D] through the layers -> [B, F, D], the rows, each layer's state."""
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
        self, x: jax.Array, rows: block_rows.Rows, state: LSTMState | None
    ) -> tuple[jax.Array, LSTMState]:
        """Run x [B, F, D] through the layer -> [B, F, D] and its state."""
        batch, frames, width = x.shape
        init = hk.initializers.RandomUniform(-(width**-0.5), width**-0.5)
        w_i = hk.get_parameter("w_i", (width, 4 * width), x.dtype, init)
        w_h = hk.get_parameter("w_h", (width, 4 * width), x.dtype, init)
        b = hk.get_parameter("b", (4 * width,), x.dtype, init)
        zeros = jnp.zeros((batch, width), x.dtype)
        h, c = (zeros, zeros) if state is None else state
        fresh = rows.start[:, None] >= 0
        h, c = jnp.where(fresh, 0.0, h), jnp.where(fresh, 0.0, c)

        gates = jnp.matmul(x, w_i) + b  # [B, F, 4D]
        inside = rows.mask(frames)

        by_frame = jnp.swapaxes(gates, 0, 1), jnp.swapaxes(inside, 0, 1)
        y, last = _recur(*by_frame, w_h, (h, c))
        return jnp.swapaxes(y, 0, 1), last


@jax.custom_vjp
def _recur(
    gates: jax.Array, inside: jax.Array, w_h: jax.Array, state: LSTMState
) -> tuple[jax.Array, LSTMState]:
    """Run the recurrence: gates [F, B, 4D] before the product with h -> h [F, B, D].

    The gradient is written by hand: that of w_h is one product over all frames, where the gradient
    of a scan would add a matrix of its size for every frame.
    """
    y, last, _ = _scan(gates, inside, w_h, state)
    return y, last


def _scan(
    gates: jax.Array, inside: jax.Array, w_h: jax.Array, state: LSTMState
) -> tuple[jax.Array, LSTMState, tuple[jax.Array, ...]]:
    """Return every h [F, B, D], the last state, and h, c before each frame with its gates."""

    def step(
        carry: LSTMState, inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[LSTMState, tuple[jax.Array, ...]]:
        h, c = carry
        gates, keep = inputs
        gates = gates + jnp.matmul(h, w_h)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        new_c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        new_h = jax.nn.sigmoid(o) * jnp.tanh(new_c)
        carry = jnp.where(keep, new_h, h), jnp.where(keep, new_c, c)
        return carry, (new_h, h, c, gates)

    last, (y, *saved) = jax.lax.scan(step, state, (gates, inside))
    return y, last, tuple(saved)


def _recur_forward(
    gates: jax.Array, inside: jax.Array, w_h: jax.Array, state: LSTMState
) -> tuple[tuple[jax.Array, LSTMState], tuple[jax.Array, ...]]:
    y, last, saved = _scan(gates, inside, w_h, state)
    return (y, last), (inside, w_h, *saved)


def _recur_backward(
    saved: tuple[jax.Array, ...], gradient: tuple[jax.Array, LSTMState]
) -> tuple[jax.Array, None, jax.Array, LSTMState]:
    inside, w_h, hs, cs, gates = saved
    dy, dlast = gradient
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    tanh_c = jnp.tanh(f * cs + i * g)
    # The gradient of each gate per gradient of c (i, f, g) or of h (o), and of c per gradient of h.
    by_gate = jnp.concatenate([g * i * (1 - i), cs * f * (1 - f), i * (1 - g * g)], axis=-1)
    by_o = tanh_c * o * (1 - o)
    h_to_c = o * (1 - tanh_c * tanh_c)
    # Transposed once: products with w_h as it lies are three times slower on a CPU.
    back = jax.lax.optimization_barrier(w_h.T)

    def step(carry: LSTMState, inputs: tuple[jax.Array, ...]) -> tuple[LSTMState, jax.Array]:
        dh_next, dc_next = carry
        dy, keep, f, by_gate, by_o, h_to_c = inputs
        dh = dy + jnp.where(keep, dh_next, 0)
        dc = jnp.where(keep, dc_next, 0) + dh * h_to_c
        dgates = jnp.concatenate([jnp.tile(dc, 3) * by_gate, dh * by_o], axis=-1)
        dh = jnp.matmul(dgates, back)
        carry = jnp.where(keep, 0, dh_next) + dh, jnp.where(keep, 0, dc_next) + dc * f
        return carry, dgates

    first, dgates = jax.lax.scan(step, dlast, (dy, inside, f, by_gate, by_o, h_to_c), reverse=True)
    dw_h = jnp.einsum("fbd,fbe->de", hs, dgates)
    return dgates, None, dw_h, first


_recur.defvjp(_recur_forward, _recur_backward)
