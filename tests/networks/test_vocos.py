"""The Vocos decoder: its layers beside numpy, and that blocks do not show in what comes out."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import config
from encodec_hk.networks import cost
from encodec_hk.networks import fourier_head
from encodec_hk.networks import model
from encodec_hk.networks import quantizer
from encodec_hk.networks import reach
from tests import compilation
from tests import random_networks
from tests.networks import test_model

LENGTHS = (1, 2, 3, 4, 5, 8, 13, 30, 50)  # frames; the window has 4, a kernel 7


def small(**fields):
    return random_networks.small(decoder="vocos", vocos=fields)


def zero_padded(x, kernel_size, causal):
    """Windows [F, kernel, C] of x [F, C] with zeros around it."""
    left = kernel_size - 1 if causal else kernel_size // 2
    padded = np.pad(x, ((left, kernel_size - 1 - left), (0, 0)))
    return np.stack([padded[at : at + kernel_size] for at in range(len(x))])


def normalized(x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def gelu(x):
    erf = np.vectorize(math.erf)
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def decoded(model_config, params, codes):
    """The audio [T] of codes [K, F] in numpy and float64, from the definition."""
    fields, hop = model_config.vocos, config.hop_length(model_config)
    p = {path: jax.tree.map(np.float64, leaves) for path, leaves in params.items()}
    norm = config.vocos_norms(model_config)[len(codes) - 1]

    def adapt(x, path):
        return normalized(x) * p[path]["scale"][norm] + p[path]["offset"][norm]

    books = p["quantizer"]["codebooks"]
    x = sum(books[k][row] for k, row in enumerate(codes))
    conv = p["decoder/embed/conv"]
    x = np.einsum("fkc,kcd->fd", zero_padded(x, 7, fields.causal), conv["w"]) + conv["b"]
    x = adapt(x, "decoder/embed/norm")
    for index in range(fields.num_layers):
        path = f"decoder/block_{index}"
        depthwise, first, second = (
            p[f"{path}/{name}"] for name in ("depthwise", "linear_0", "linear_1")
        )
        y = np.einsum("fkc,kc->fc", zero_padded(x, 7, fields.causal), depthwise["w"])
        y = adapt(y + depthwise["b"], f"{path}/norm")
        y = gelu(y @ first["w"] + first["b"]) @ second["w"] + second["b"]
        x = x + p[path]["gamma"] * y
    head, linear = p["decoder/head"], p["decoder/head/linear"]
    y = (normalized(x) * head["scale"] + head["offset"]) @ linear["w"] + linear["b"]
    level, *waves = np.split(y, 2 if fields.head == "polar" else 3, axis=-1)
    wave = np.exp(1j * waves[0]) if fields.head == "polar" else waves[0] + 1j * waves[1]
    spectrum = np.minimum(np.exp(level), 100) * wave
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fields.n_fft) / fields.n_fft)
    total, squares = np.zeros((2, (len(x) - 1) * hop + fields.n_fft))
    for at, frame in enumerate(np.fft.irfft(spectrum, fields.n_fft)):
        total[at * hop : at * hop + fields.n_fft] += frame * window
        squares[at * hop : at * hop + fields.n_fft] += window**2
    cut = (fields.n_fft - hop) // 2
    return (total[cut:-cut] / squares[cut:-cut]) if cut else total / squares


class VocosTest(chex.TestCase):
    @parameterized.parameters(
        (False, 1, "polar"), (True, 2, "polar"), (False, 3, "complex"), (True, 3, "complex")
    )
    def test_computes_its_definition(self, causal, num_codebooks, head):
        model_config = small(causal=causal, head=head)
        blocks = test_model.Blocks(model_config, decode=True)
        rng = np.random.default_rng(0)
        rows = [blocks.draw(rng, length)[:, :num_codebooks] for length in LENGTHS]
        for row in rows:
            block = np.zeros((1, num_codebooks, 50), np.int32)
            block[0, :, : len(row)] = row.T
            _, y = blocks.block(blocks.params, None, block, np.array([len(row)]), np.array([True]))
            expected = decoded(model_config, blocks.params, row.T)
            np.testing.assert_allclose(y[0, : len(row) * 12, 0], expected, rtol=0, atol=1e-6)

    @parameterized.product(
        sizes=((50,), (10, 2, 3), (1,)), fields=({}, {"causal": True}, {"n_fft": 24}, {"n_fft": 72})
    )
    @pytest.mark.few(1, 4, 8, 9)
    def test_blocks_equal_whole_rows(self, sizes, fields):
        blocks = test_model.Blocks(small(**fields), decode=True)
        rng = np.random.default_rng(1)
        rows = [blocks.draw(rng, length) for length in LENGTHS]
        for output, row in zip(blocks.run(rows, sizes), rows, strict=True):
            np.testing.assert_allclose(output, blocks.whole(row), rtol=0, atol=1e-6)

    @parameterized.parameters(False, True)
    def test_other_rows_change_no_bit(self, causal):
        self.enter_context(compilation.normal())
        blocks = test_model.Blocks(small(causal=causal), decode=True)
        blocks.block = jax.jit(blocks.model.synthesize_block)
        rng = np.random.default_rng(2)
        x = rng.standard_normal((3, 8, 8)).astype(np.float32)
        outputs = []
        for noise in (1.0, 1e6, np.nan):
            state, found = blocks.start(3), []
            for valid, last in ((8, False), (5, True), (0, False), (0, False)):
                block = x.copy()
                block[[0, 2]] *= noise
                block[1, valid:] = noise
                counts, ends = np.array([8, valid, 3]), np.array([False, last, True])
                state, y = blocks.block(blocks.params, state, block, counts, ends)
                found.append(np.asarray(y)[1])
            outputs.append(np.concatenate(found)[blocks.lag :][: 13 * 12])
        np.testing.assert_array_equal(outputs[0], outputs[1])
        np.testing.assert_array_equal(outputs[0], outputs[2])

    def test_a_place_starts_afresh_when_all_is_out(self):
        blocks = test_model.Blocks(small(), decode=True)
        rng = np.random.default_rng(3)
        rows, state = [blocks.draw(rng, length) for length in (9, 1, 20)], blocks.start(1)
        for row in rows:
            outputs = []
            for start in range(0, len(row) + -(-blocks.lag // 12), 8):
                part = row[start : start + 8]
                block = blocks.draw(rng, 8)
                block[: len(part)] = part
                state, y = blocks.block(
                    blocks.params,
                    state,
                    block.T[None],
                    np.array([len(part)], np.int32),
                    np.array([start + 8 >= len(row)]),
                )
                outputs.append(y[0])
            np.testing.assert_array_equal(state["start"], 0)
            found = np.concatenate(outputs)[blocks.lag :][: 12 * len(row)]
            np.testing.assert_allclose(found, blocks.whole(row), rtol=0, atol=1e-6)

    @parameterized.parameters((False, 126), (True, 18))
    def test_the_lag_is_what_it_looks_ahead(self, causal, lag):
        """A later code changes samples from `lag` before its frame on, and none before."""
        model_config = small(causal=causal)
        self.assertEqual(reach.lags(model_config), (0, lag))
        blocks = test_model.Blocks(model_config, decode=True)
        row = blocks.draw(np.random.default_rng(4), 40)
        other = row.copy()
        other[25] = (row[25] + 1) % 16
        changed = np.abs(blocks.whole(row) - blocks.whole(other))[:, 0] > 0
        self.assertGreaterEqual(changed.argmax(), 25 * 12 - lag)
        self.assertLess(changed.argmax(), 25 * 12 - lag + 12)  # a window begins with zero
        # So many frames at most decide a sample.
        _, frames = reach.receptive_field(model_config)
        self.assertLessEqual(np.ptp(np.flatnonzero(changed)) // 12 + 1, frames + 1)

    def test_one_compilation_for_all_lengths(self):
        chex.clear_trace_counter()
        blocks = test_model.Blocks(small(), decode=True)
        blocks.block = jax.jit(chex.assert_max_traces(blocks.model.decode_block, n=1))
        rng = np.random.default_rng(5)
        for lengths in ([1, 50], [9, 8], [3, 30]):
            blocks.run([blocks.draw(rng, length) for length in lengths], [8])

    def test_rows_that_fill_their_block(self):
        networks, params = model.build(small()), random_networks.random_params(small())
        latents = np.random.default_rng(6).standard_normal((2, 9, 8)).astype(np.float32)
        counts = np.full(2, 9)
        block = jax.jit(networks.synthesize_block)
        _, expected = block(params, None, latents, counts, counts > 0)
        _, found = block(params, None, latents, None, None)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)

    def test_norms_of_latents(self):
        """`synthesize_block` takes the number of codebooks, traced or not; None is all."""
        networks, params = model.build(small()), random_networks.random_params(small())
        codes = np.random.default_rng(7).integers(0, 16, (1, 3, 9)).astype(np.int32)
        outputs = []
        for count in (1, 2, 3):
            own = codes[:, :count]
            latents = quantizer.decode(params["quantizer"]["codebooks"], own)
            _, expected = networks.decode_block(params, None, own, None, None)
            traced = jax.jit(
                lambda count, x: networks.synthesize_block(
                    params, None, x, None, None, num_codebooks=count
                )
            )
            _, found = traced(count, latents)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
            _, found = networks.synthesize_block(params, None, latents, None, None)
            outputs.append(np.abs(found - expected).max())
        self.assertEqual(outputs[2], 0)
        self.assertGreater(outputs[0], 1e-3)

    def test_gradients_are_finite(self):
        networks, params = model.build(small()), random_networks.random_params(small())
        latents = np.random.default_rng(8).standard_normal((2, 9, 8)).astype(np.float32)

        @jax.jit
        @jax.grad
        def loss(params):
            _, y = networks.synthesize_block(params, None, latents, None, None)
            return jnp.square(y).sum()

        gradients = loss(params)
        for path in ("decoder/embed/conv", "decoder/block_0/depthwise", "decoder/head/linear"):
            for leaf in jax.tree.leaves(gradients[path]):
                self.assertTrue(np.isfinite(leaf).all())
                self.assertGreater(np.abs(leaf).max(), 0)

    def test_a_signal_stays_alive(self):
        networks = model.build(small())
        params = jax.jit(networks.init)(jax.random.key(0))
        latents = np.random.default_rng(9).standard_normal((2, 50, 8)).astype(np.float32)
        _, y = jax.jit(networks.synthesize_block)(params, None, latents, None, None)
        self.assertBetween(np.std(y), 0.01, 1)

    def test_multiply_adds(self):
        calls = {call.path: call for call in cost.trace(small())}
        frames = 100
        self.assertEqual(calls["decoder/embed/conv"].multiply_adds, frames * 7 * 8 * 16)
        self.assertEqual(calls["decoder/embed/norm"].multiply_adds, 0)
        self.assertEqual(calls["decoder/block_0/depthwise"].multiply_adds, frames * 7 * 16)
        self.assertEqual(calls["decoder/block_1/linear_0"].multiply_adds, frames * 16 * 24)
        self.assertEqual(calls["decoder/head/linear"].multiply_adds, frames * 16 * 50)
        self.assertEqual(calls["decoder"].output, (1200, 1))

    def test_the_window(self):
        np.testing.assert_allclose(fourier_head._hann(8), np.hanning(9)[:8], atol=1e-7)


if __name__ == "__main__":
    absltest.main()
