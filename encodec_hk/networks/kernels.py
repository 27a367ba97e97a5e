"""Lowerings of a convolution, and which case takes which.

The table below is read from the top: the first row whose case fits is used. `convolution` reads it
for a platform and a precision when a model is built; a case then depends on shapes alone.

| case | lowering | why | measured |
|---|---|---|---|
| one or two channels in or out (the audio's side) | sum of products over the taps | XLA's CPU
convolution is slow there; the gradient of w is a product by row | 2 to 4 times faster |
| one row, one output (a frame of a stream) | product of a vector with the weights | a convolution
copies the weights first | most of a frame's time |
| GPU, float32 exact | taps side by side, one product | cuDNN transposes before and after | 118 ms
for 160, 64 x 10 s encoded on an H100 |
| kernel 1 | convolution, gradients as products | XLA transposes both factors of the gradient of w |
2 to 4 times faster, 5 to 13 % of a training step on CPU |
| all others | XLA's convolution | | |

Shapes: B rows, T time steps of the padded block, C channels in, D channels out.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Convolution = Callable[..., jax.Array]
"""(x [B, T, C], w [kernel, C, D], stride=1, dilation=1) -> [B, T', D], without padding."""

_FEW = 2  # channels of audio


class _Case(NamedTuple):
    """A row of the table: whether it fits x and w of a stride and dilation, and its lowering."""

    fits: Callable[[jax.Array, jax.Array, int, int], bool]
    lowering: Convolution
    is_exact_on_gpu: bool = False  # for exact float32 on a GPU alone


def convolution(platform: str, precision: str) -> Convolution:
    """Return the convolution for a platform, such as "cpu" or "gpu", and a precision."""
    is_exact_on_gpu = platform == "gpu" and precision in ("float32", "highest")
    cases = [case for case in _TABLE if is_exact_on_gpu or not case.is_exact_on_gpu]

    def convolve(x: jax.Array, w: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
        kernel_size, channels, features = w.shape
        if stride > 1 and dilation == 1 and kernel_size % stride == 0:
            # A kernel of whole strides is a kernel of stride 1 over blocks of a stride. The
            # gradient of a strided convolution would be dilated, up to 3.5 times slower on CPU.
            x = x[:, : x.shape[1] // stride * stride].reshape(x.shape[0], -1, stride * channels)
            w = w.reshape(kernel_size // stride, stride * channels, features)
            stride = 1
        case = next(case for case in cases if case.fits(x, w, stride, dilation))
        return case.lowering(x, w, stride, dilation)

    return convolve


def _plain(x: jax.Array, w: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        w,
        window_strides=(stride,),
        padding="VALID",
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )


@jax.custom_vjp
def _few_channels(x: jax.Array, w: jax.Array) -> jax.Array:
    return _sum_of_taps(x, w)


def _few_channels_forward(
    x: jax.Array, w: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _sum_of_taps(x, w), (x, w)


def _few_channels_backward(
    saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    _, pull = jax.vjp(functools.partial(_sum_of_taps, w=w), x)
    if x.shape[2] > _FEW:
        return *pull(dy), jax.vjp(functools.partial(_sum_of_taps, x), w)[1](dy)[0]
    # One product for each row, as the few channels of audio at all taps are narrow.
    kernel_size, channels, features = w.shape
    steps = x.shape[1] - kernel_size + 1
    taps = jnp.concatenate([x[:, tap : tap + steps] for tap in range(kernel_size)], axis=-1)
    wide = jnp.promote_types(w.dtype, jnp.float32)
    dw = jnp.einsum("btc,btd->bcd", taps, dy, preferred_element_type=wide).sum(0)
    return *pull(dy), dw.reshape(kernel_size, channels, features).astype(w.dtype)


_few_channels.defvjp(_few_channels_forward, _few_channels_backward)


def _sum_of_taps(x: jax.Array, w: jax.Array) -> jax.Array:
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


def _one_output(x: jax.Array, w: jax.Array, *_: int) -> jax.Array:
    return jnp.matmul(x.reshape(1, 1, -1), w.reshape(-1, w.shape[2]))


def _one_product(x: jax.Array, w: jax.Array, stride: int, dilation: int) -> jax.Array:
    del stride  # 1
    kernel_size, _, features = w.shape
    steps = x.shape[1] - (kernel_size - 1) * dilation
    starts = range(0, kernel_size * dilation, dilation)
    taps = jnp.concatenate([x[:, start : start + steps] for start in starts], axis=-1)
    return jnp.matmul(taps, w.reshape(-1, features))


@jax.custom_vjp
def _pointwise(x: jax.Array, w: jax.Array) -> jax.Array:
    return _plain(x, w)


def _pointwise_forward(x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _plain(x, w), (x, w)


def _pointwise_backward(
    saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    wide = jnp.promote_types(w.dtype, jnp.float32)
    dw = jnp.einsum("btc,btd->bcd", x, dy, preferred_element_type=wide)  # by row
    return jnp.matmul(dy, w[0].T), dw.sum(0)[None].astype(w.dtype)


_pointwise.defvjp(_pointwise_forward, _pointwise_backward)

_TABLE = (
    _Case(
        lambda x, w, stride, dilation: (
            stride == dilation == 1 and len(w) > 1 and min(w.shape[1:]) <= _FEW
        ),
        lambda x, w, *_: _few_channels(x, w),
    ),
    _Case(
        lambda x, w, stride, dilation: x.shape[:2] == (1, len(w)) and dilation == 1,
        _one_output,
    ),
    _Case(
        lambda x, w, stride, dilation: stride == 1 and x.dtype == jnp.float32,
        _one_product,
        is_exact_on_gpu=True,
    ),
    _Case(
        lambda x, w, stride, dilation: stride == len(w) == 1,
        lambda x, w, *_: _pointwise(x, w),
    ),
    _Case(lambda x, w, stride, dilation: True, _plain),
)
