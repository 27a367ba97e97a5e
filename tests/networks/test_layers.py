"""Every layer against plain numpy: rows of all lengths in one block, and blocks in a row."""

import chex
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from encodec_hk.networks import block_rows
from encodec_hk.networks import convolution
from encodec_hk.networks import group_norm
from encodec_hk.networks import kernels
from encodec_hk.networks import lstm
from encodec_hk.networks import padding
from tests import numpy_layers

CHANNELS = 3
FEATURES = 4


def whole(lengths, size):
    """Rows that start and end in the block."""
    lengths = jnp.asarray(lengths, jnp.int32)
    start, stop = jnp.zeros_like(lengths), jnp.full_like(lengths, size)
    return block_rows.Rows(start, lengths, stop, is_whole=True)


def going_on(lengths, before, size, lag=0):
    """Rows of which `before` steps came in earlier blocks; their stream lags."""
    left = np.asarray(lengths, np.int32) - before
    start = jnp.full(left.shape, lag - before, jnp.int32)
    end = jnp.asarray(np.where(left <= size, left + lag, block_rows.FAR))
    return block_rows.Rows(start, end, jnp.full(left.shape, size, jnp.int32), lag=lag)


def noisy_block(rng, signals, size):
    """Signals [T, C] as rows of a block whose padding is loud noise."""
    block = 1e3 * rng.standard_normal((len(signals), size, signals[0].shape[1]))
    for row, signal in zip(block, signals, strict=True):
        row[: len(signal)] = signal
    return block.astype(np.float32)


def draw(rng, lengths, channels=CHANNELS):
    return [rng.standard_normal((length, channels)).astype(np.float32) for length in lengths]


def draw_affine(rng):
    scale, offset = rng.standard_normal((2, FEATURES)).astype(np.float32)
    return {"scale": scale, "offset": offset}


class PaddingTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.product(
        shape=[(6, 0, 1), (2, 0, 2), (8, 0, 8), (3, 3, 1), (1, 1, 2), (3, 2, 5), (4, 4, 1)],
        mode=padding.PAD_MODES,
    )
    def test_whole_rows(self, shape, mode):
        left, right, stride = shape
        size = 5 * stride if stride > 1 else 17
        lengths = range(1, size + 1)
        rng = np.random.default_rng(0)
        signals = draw(rng, lengths)

        def pad_block(block):
            return padding.pad_block(
                block, whole(lengths, size), None, left=left, right=right, stride=stride, mode=mode
            )[0]

        padded = self.variant(pad_block)(noisy_block(rng, signals, size))
        for row, signal in zip(np.asarray(padded), signals, strict=True):
            extra = -len(signal) % stride
            expected = numpy_layers.pad(signal, left, right + extra, mode)
            np.testing.assert_array_equal(row[: len(expected)], expected)

    def test_context_is_what_came_before_each_length(self):
        x = jnp.arange(12.0).reshape(2, 6, 1)
        far = jnp.array([block_rows.FAR, block_rows.FAR])
        rows = block_rows.Rows(start=-far // 2, end=far, stop=jnp.array([4, 0]))
        context = jnp.array([[[-2.0], [-1.0]], [[-4.0], [-3.0]]])
        _, after, lag = padding.pad_block(
            x, rows, context, left=2, right=0, stride=1, mode="reflect"
        )
        self.assertEqual(lag, 0)
        np.testing.assert_array_equal(after[..., 0], [[2.0, 3.0], [-4.0, -3.0]])


def run(module, block, rows, state=None, params=None):
    """Applies a layer; params None draws them. Returns (outputs, next state), params."""
    transformed = hk.without_apply_rng(hk.transform(lambda *args: module()(*args)))
    if params is None:  # not its own fresh ones, in which most taps are zero
        shapes = jax.eval_shape(lambda: transformed.init(jax.random.key(0), block, rows, state))
        params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
        rng = np.random.default_rng(0)
        scale = np.prod(params["layer"]["w"].shape[:-1]) ** -0.5
        params["layer"] = {
            name: (scale * rng.uniform(-1, 1, value.shape)).astype(np.float32)
            for name, value in params["layer"].items()
        }
    return transformed.apply(params, block, rows, state), params["layer"]


def settings(causal, norm, pad_mode="reflect"):
    return convolution.ConvSettings(
        causal=causal,
        norm=norm,
        pad_mode=pad_mode,
        convolve=kernels.convolution("cpu", "float32"),
    )


class ConvTest(chex.TestCase):
    @parameterized.product(
        kernel=[(7, 1, 1), (3, 1, 1), (3, 1, 4), (1, 1, 1), (4, 2, 1), (10, 5, 1), (16, 8, 1)],
        causal=[True, False],
        mode=padding.PAD_MODES,
    )
    def test_whole_rows(self, kernel, causal, mode):
        kernel_size, stride, dilation = kernel
        rng = np.random.default_rng(1)
        lengths = [*range(1, 2 * kernel_size), 40]
        signals = draw(rng, lengths)

        def module():
            return convolution.Conv(
                channels=FEATURES,
                kernel_size=kernel_size,
                stride=stride,
                dilation=dilation,
                activate=False,
                settings=settings(causal, "weight_norm", mode),
                name="layer",
            )

        (y, _, _), params = run(module, noisy_block(rng, signals, 40), whole(lengths, 40))
        for row, signal in zip(np.asarray(y), signals, strict=True):
            expected = numpy_layers.conv(
                signal,
                params["w"],
                params["b"],
                stride=stride,
                dilation=dilation,
                causal=causal,
                mode=mode,
            )
            np.testing.assert_allclose(row[: len(expected)], expected, atol=2e-5)

    def test_double_precision_changes_no_count(self):
        """Rows are counted with int32 where JAX's own integers have 64 bits, too."""
        rows = whole([5, 8], 8)
        for mode in padding.PAD_MODES:
            with jax.enable_x64(True):
                padded, _, lag = padding.pad_block(
                    jnp.ones((2, 8, 1), jnp.float32),
                    rows,
                    None,
                    left=2,
                    right=1,
                    stride=2,
                    mode=mode,
                )
                down = rows.downsampled(2, lag)
            self.assertEqual(padded.dtype, jnp.float32)
            self.assertEqual({down.start.dtype, down.end.dtype, down.stop.dtype}, {jnp.int32.dtype})
            np.testing.assert_array_equal(down.end, [3, 4])

    @parameterized.parameters((7, 1, 1), (3, 1, 4), (1, 1, 1), (4, 2, 1), (16, 8, 1))
    def test_on_a_gpu(self, kernel_size, stride, dilation):
        """Exact float32 is one product there, with the gradients of the convolution."""
        rng = np.random.default_rng(2)
        x = rng.standard_normal((2, 48, CHANNELS)).astype(np.float32)
        w = rng.standard_normal((kernel_size, CHANNELS, FEATURES)).astype(np.float32)

        def run_on(platform, precision):
            convolve = kernels.convolution(platform, precision)

            def value(x, w):
                y = convolve(x, w, stride=stride, dilation=dilation)
                return jnp.sum(jnp.sin(y)), y

            function = jax.value_and_grad(value, argnums=(0, 1), has_aux=True)
            return str(jax.make_jaxpr(function)(x, w)), function(x, w)

        _, expected = run_on("cpu", "float32")
        jaxpr, found = run_on("gpu", "float32")
        faster, _ = run_on("gpu", "tensorfloat32")
        self.assertNotIn("conv_general_dilated", jaxpr)
        self.assertIn("conv_general_dilated", faster)
        chex.assert_trees_all_close(found, expected, atol=1e-4)

    @parameterized.product(
        kernel=[(7, 1, 1), (3, 1, 2), (4, 2, 1), (10, 5, 1), (2, 1, 1)],
        lag=[None, 0, 1, 3, 25],  # None: causal
        mode=padding.PAD_MODES,
        size=[20, 10],
    )
    @pytest.mark.few(*range(0, 100, 3))
    def test_blocks_equal_the_whole(self, kernel, lag, mode, size):
        kernel_size, stride, dilation = kernel
        causal = lag is None
        lag = lag or 0
        rng = np.random.default_rng(2)
        lengths = [20, 21, 39, 40, 41, 57, 58] if causal else [1, 2, 3, 7, 20, 21, 39, 41, 57, 58]
        signals = draw(rng, lengths)

        def module():
            return convolution.Conv(
                channels=FEATURES,
                kernel_size=kernel_size,
                stride=stride,
                dilation=dilation,
                activate=False,
                settings=settings(causal, "none", mode),
                name="layer",
            )

        params = {
            "layer": {
                "w": rng.standard_normal((kernel_size, CHANNELS, FEATURES)).astype(np.float32),
                "b": rng.standard_normal(FEATURES).astype(np.float32),
            }
        }
        # The signals as a stream that lags: noise before and after each of them.
        total = 60 + 2 * size * (1 + (lag + kernel_size * dilation) // size)
        stream = 1e3 * rng.standard_normal((len(signals), total, CHANNELS))
        stream = stream.astype(np.float32)
        for row, signal in zip(stream, signals, strict=True):
            row[lag : lag + len(signal)] = signal
        state, outputs = None, []
        for before in range(0, total, size):
            rows = going_on(lengths, before, size, lag)
            block = stream[:, before : before + size]
            (y, after, state), _ = run(module, block, rows, state, params)
            outputs.append(np.asarray(y))
        outputs = np.concatenate(outputs, axis=1)
        for output, signal in zip(outputs, signals, strict=True):
            expected = numpy_layers.conv(
                signal,
                **params["layer"],
                stride=stride,
                dilation=dilation,
                causal=causal,
                mode=mode,
            )
            found = output[after.lag : after.lag + len(expected)]
            np.testing.assert_allclose(found, expected, atol=5e-5)

    def test_norm_ignores_padding(self):
        rng = np.random.default_rng(3)
        lengths = [1, 2, 9, 30]
        signals = draw(rng, lengths)

        def module():
            return convolution.Conv(
                channels=FEATURES,
                kernel_size=4,
                stride=2,
                activate=False,
                settings=settings(False, "time_group_norm"),
                name="layer",
            )

        affine = draw_affine(rng)
        block, rows = noisy_block(rng, signals, 30), whole(lengths, 30)
        _, drawn = run(module, block, rows)
        params = {"layer": drawn, "layer/norm": affine}
        (y, _, _), _ = run(module, block, rows, None, params)
        for row, signal in zip(np.asarray(y), signals, strict=True):
            expected = numpy_layers.conv(
                signal, drawn["w"], drawn["b"], stride=2, causal=False, mode="reflect"
            )
            expected = numpy_layers.group_norm(expected, **affine)
            np.testing.assert_allclose(row[: len(expected)], expected, atol=2e-4)


class FreshWeightsTest(parameterized.TestCase):
    @parameterized.parameters(
        # Kernel, stride, dilation, causal; the taps that are not zero.
        (7, 1, 1, True, slice(6, 7)),
        (7, 1, 1, False, slice(3, 4)),
        (3, 1, 4, True, slice(2, 3)),
        (10, 5, 1, True, slice(5, 10)),
        (10, 5, 1, False, slice(3, 8)),
    )
    def test_orthogonal_on_what_is_new(self, kernel_size, stride, dilation, causal, taps):
        def module(x, channels):
            layer = convolution.Conv(
                channels=channels,
                kernel_size=kernel_size,
                stride=stride,
                dilation=dilation,
                activate=False,
                settings=settings(causal, "none"),
                gain=0.5,
                name="layer",
            )
            return layer(x, whole([40], 40))

        transformed = hk.without_apply_rng(hk.transform(module))
        for channels in (2, 20):
            params = transformed.init(jax.random.key(0), jnp.zeros((1, 40, CHANNELS)), channels)
            w = np.asarray(params["layer"]["w"])
            self.assertFalse(np.any(np.delete(w, taps, axis=0)))
            matrix = w[taps].reshape(-1, channels)
            small = matrix.T @ matrix if channels <= len(matrix) else matrix @ matrix.T
            gain = 0.25 * max(1, channels / len(matrix))
            np.testing.assert_allclose(small, gain * np.eye(len(small)), atol=1e-6)

    def test_transposed(self):
        def module(x):
            layer = convolution.ConvTranspose(
                channels=4,
                stride=5,
                activate=False,
                settings=settings(True, "none"),
                name="layer",
            )
            return layer(x, whole([7], 7))

        transformed = hk.without_apply_rng(hk.transform(module))
        params = transformed.init(jax.random.key(0), jnp.zeros((1, 7, 10)))
        before, new = np.asarray(params["layer"]["w"])
        self.assertFalse(np.any(before))
        np.testing.assert_allclose(new @ new.T, 2 * np.eye(10), atol=1e-6)


class ConvTransposeTest(chex.TestCase):
    @parameterized.product(
        stride=[1, 2, 4, 5, 8], kind=[(True, False), (False, False), (False, True)]
    )
    def test_whole_rows(self, stride, kind):
        causal, normed = kind
        rng = np.random.default_rng(4)
        lengths = [1, 2, 3, 7]
        signals = draw(rng, lengths)
        taps = rng.standard_normal((2 * stride, CHANNELS, FEATURES))
        bias = rng.standard_normal(FEATURES)
        affine = draw_affine(rng)

        def module():
            return convolution.ConvTranspose(
                channels=FEATURES,
                stride=stride,
                activate=False,
                settings=settings(causal, "time_group_norm" if normed else "none"),
                name="layer",
            )

        params = {"layer": {"w": numpy_layers.polyphase(taps), "b": bias}, "layer/norm": affine}
        params = jax.tree.map(jnp.float32, params)
        (y, _, _), _ = run(module, noisy_block(rng, signals, 7), whole(lengths, 7), None, params)
        for row, signal in zip(np.asarray(y), signals, strict=True):
            expected = numpy_layers.conv_transpose(
                signal,
                taps,
                bias,
                stride=stride,
                causal=causal,
                norm=(lambda x: numpy_layers.group_norm(x, **affine)) if normed else lambda x: x,
            )
            np.testing.assert_allclose(row[: len(expected)], expected, atol=2e-4)


class LSTMTest(chex.TestCase):
    def test_rows_and_blocks(self):
        rng = np.random.default_rng(5)
        width, size = 6, 5
        lengths = [1, 5, 6, 13]
        signals = draw(rng, lengths, width)

        def module():
            return lstm.LSTM(num_layers=2, name="lstm")

        transformed = hk.without_apply_rng(hk.transform(lambda *args: module()(*args)))
        params, state, outputs = None, None, [[] for _ in signals]
        for start in range(0, 15, size):
            parts = [signal[start : start + size] for signal in signals]
            counts = np.array([len(part) for part in parts])
            rows = going_on(lengths, start, size)
            block = noisy_block(rng, parts, size)
            if params is None:
                params = transformed.init(jax.random.key(0), block, rows, state)
            y, _, state = transformed.apply(params, block, rows, state)
            for output, row, count in zip(outputs, np.asarray(y), counts, strict=True):
                output.append(row[:count])
        for output, signal in zip(outputs, signals, strict=True):
            expected = signal
            for layer in ("lstm/layer_0", "lstm/layer_1"):
                expected = numpy_layers.lstm_layer(expected, **params[layer])
            np.testing.assert_allclose(np.concatenate(output), signal + expected, atol=1e-5)


class TimeGroupNormTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_long_rows_keep_their_precision(self):
        rng = np.random.default_rng(6)
        x = (5 + rng.standard_normal((2, 48000, 8))).astype(np.float32)
        mask = np.arange(48000)[None, :, None] < np.array([48000, 31])[:, None, None]
        transformed = hk.without_apply_rng(hk.transform(lambda *a: group_norm.TimeGroupNorm()(*a)))
        params = transformed.init(jax.random.key(0), x, mask)
        y = np.asarray(self.variant(transformed.apply)(params, x, mask))
        for row, signal, length in zip(y, x, [48000, 31], strict=True):
            expected = numpy_layers.group_norm(signal[:length], 1.0, 0.0)
            np.testing.assert_allclose(row[:length], expected, atol=5e-6)
