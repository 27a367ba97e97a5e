"""The encoder of spectra: its layers beside numpy, and that blocks do not show in the latents."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import config
from encodec_hk.networks import cost
from encodec_hk.networks import fourier_encoder
from encodec_hk.networks import model
from encodec_hk.networks import reach
from tests import compilation
from tests import random_networks
from tests.networks import test_model
from tests.networks import test_vocos

LENGTHS = (1, 11, 12, 13, 24, 47, 60, 96, 157, 350, 600)  # samples; the window has 48


def small(**fields):
    return random_networks.small(encoder="fourier", **fields)


def embedded(model_config, params, audio):
    """The latents [F, D] of audio [T] in numpy and float64, from the definition."""
    fields, hop, causal = model_config.fourier, config.hop_length(model_config), model_config.causal
    p = {path: jax.tree.map(np.float64, leaves) for path, leaves in params.items()}

    def norm(x, path):
        own = p[f"{path}/norm"]
        return test_vocos.normalized(x) * own["scale"][0] + own["offset"][0]

    frames = -(-len(audio) // hop)
    left = fields.n_fft - hop if causal else (fields.n_fft - hop) // 2
    padded = np.zeros(frames * hop + fields.n_fft)
    padded[left : left + len(audio)] = audio
    fall = hop if causal else fields.n_fft // 2
    rise = fields.n_fft - fall
    window = np.concatenate(
        [
            np.sin(np.pi / 2 * (np.arange(rise) + 0.5) / rise) ** 2,
            np.cos(np.pi / 2 * (np.arange(fall) + 0.5) / fall) ** 2,
        ]
    )
    window /= np.sqrt(np.sum(window**2))
    x = []
    for start in range(0, frames * hop, hop):
        spectrum = np.fft.fft(padded[start : start + fields.n_fft] * window)[: fields.n_fft // 2]
        power = np.abs(spectrum) ** 2 + 1e-7
        waves = 2 * (spectrum * power**-0.25)[: fields.n_fft // 8]
        x.append(np.concatenate([np.log(power) / 8 + 0.7, waves.real, waves.imag]))
    linear = p["encoder/spectra/linear"]
    x = norm(np.stack(x) @ linear["w"] + linear["b"], "encoder/spectra")
    for index in range(fields.num_layers):
        path = f"encoder/block_{index}"
        depthwise, first, second = (
            p[f"{path}/{name}"] for name in ("depthwise", "linear_0", "linear_1")
        )
        y = np.einsum("fkc,kc->fc", test_vocos.zero_padded(x, 7, causal), depthwise["w"])
        y = test_vocos.gelu(norm(y + depthwise["b"], path) @ first["w"] + first["b"])
        x = x + p[path]["gamma"] * (y @ second["w"] + second["b"])
    linear = p["encoder/latents/linear"]
    return norm(x, "encoder/latents") @ linear["w"] + linear["b"]


class FourierEncoderTest(chex.TestCase):
    @parameterized.parameters(False, True)
    def test_computes_its_definition(self, causal):
        model_config = small(causal=causal)
        blocks = test_model.Blocks(model_config)
        rng = np.random.default_rng(0)
        for length in LENGTHS:
            row = 0.1 * blocks.draw(rng, length)
            expected = embedded(model_config, blocks.params, row[:, 0])
            np.testing.assert_allclose(blocks.whole(row), expected, rtol=0, atol=2e-5)

    @parameterized.product(sizes=((600,), (120, 12, 36), (12,)), causal=(False, True))
    def test_blocks_equal_whole_rows(self, sizes, causal):
        blocks = test_model.Blocks(small(causal=causal))
        rng = np.random.default_rng(1)
        rows = [blocks.draw(rng, length) for length in LENGTHS]
        for output, row in zip(blocks.run(rows, sizes), rows, strict=True):
            np.testing.assert_allclose(output, blocks.whole(row), rtol=0, atol=3e-6)

    @parameterized.parameters(False, True)
    def test_other_rows_change_no_bit(self, causal):
        self.enter_context(compilation.normal())
        blocks = test_model.Blocks(small(causal=causal))
        blocks.block = jax.jit(blocks.model.embed_block)
        x = np.random.default_rng(2).standard_normal((3, 96, 1)).astype(np.float32)
        outputs = []
        for noise in (1.0, 1e6, np.nan):
            state, found = blocks.start(3), []
            for valid, last in ((96, False), (55, True), (0, False), (0, False)):
                block = x.copy()
                block[[0, 2]] *= noise
                block[1, valid:] = noise
                counts, ends = np.array([96, valid, 40]), np.array([False, last, True])
                state, y = blocks.block(blocks.params, state, block, counts, ends)
                found.append(np.asarray(y)[1])
            outputs.append(np.concatenate(found)[blocks.lag :][:13])
        np.testing.assert_array_equal(outputs[0], outputs[1])
        np.testing.assert_array_equal(outputs[0], outputs[2])

    @parameterized.parameters((False, 8), (True, 0))
    def test_how_far_it_looks(self, causal, lag):
        """A sample changes latents from `lag` frames before its own on, and none before."""
        model_config = small(causal=causal)
        self.assertEqual(reach.lags(model_config)[0], lag)
        samples, _ = reach.receptive_field(model_config)
        self.assertEqual(samples, 48 + 12 * 2 * 6)
        self.assertEqual(reach.minimum_first_blocks(model_config), (1, 7 if causal else 1))
        blocks = test_model.Blocks(model_config)
        row = blocks.draw(np.random.default_rng(4), 600)
        other = row.copy()
        other[306] += 1
        changed = np.flatnonzero(np.abs(blocks.whole(row) - blocks.whole(other)).max(axis=1))
        self.assertBetween(changed[0], 25 - lag, 25)
        self.assertEqual(changed[-1] - changed[0] + 1, samples // 12)

    def test_one_compilation_for_all_lengths(self):
        chex.clear_trace_counter()
        blocks = test_model.Blocks(small())
        blocks.block = jax.jit(chex.assert_max_traces(blocks.model.embed_block, n=1))
        rng = np.random.default_rng(5)
        for lengths in ([1, 600], [90, 80], [30, 333]):
            blocks.run([blocks.draw(rng, length) for length in lengths], [96])

    def test_rows_that_fill_their_block(self):
        networks, params = model.build(small()), random_networks.random_params(small())
        audio = np.random.default_rng(6).standard_normal((2, 108, 1)).astype(np.float32)
        counts = np.full(2, 108)
        block = jax.jit(networks.embed_block)
        _, expected = block(params, None, audio, counts, counts > 0)
        _, found = block(params, None, audio, None, None)
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)

    def test_gradients_are_finite(self):
        """Those of silence too."""
        networks, params = model.build(small()), random_networks.random_params(small())
        audio = np.random.default_rng(8).standard_normal((2, 108, 1)).astype(np.float32)
        audio[1] = 0

        @jax.jit
        @jax.grad
        def loss(params):
            _, y = networks.embed_block(params, None, audio, None, None)
            return jnp.square(y).sum()

        gradients = loss(params)
        for path in ("encoder/spectra/linear", "encoder/block_0/depthwise", "encoder/latents/norm"):
            for leaf in jax.tree.leaves(gradients[path]):
                self.assertTrue(np.isfinite(leaf).all())
                self.assertGreater(np.abs(leaf).max(), 0)

    @parameterized.parameters(1e-3, 1.0)
    def test_what_it_sees_stays_in_range(self, level):
        """From -60 dB to full scale, so that fresh weights fit every sound."""
        noise = level * np.random.default_rng(9).standard_normal((1, 20, 1280)).astype(np.float32)
        spectra = np.fft.rfft(noise * fourier_encoder.window(1280, 320, causal=True))
        seen = fourier_encoder._seen(jnp.asarray(spectra, jnp.complex64))
        self.assertEqual(seen.shape, (1, 20, 640 + 2 * 160))
        self.assertLess(np.abs(seen).max(), 5)
        power = np.square(np.abs(spectra)).mean()
        self.assertAlmostEqual(power / level**2, 1, delta=0.05)

    def test_multiply_adds(self):
        calls = {call.path: call for call in cost.trace(small())}
        frames = 100
        self.assertEqual(calls["encoder/spectra/linear"].multiply_adds, frames * (24 + 2 * 6) * 16)
        self.assertEqual(calls["encoder/block_0/depthwise"].multiply_adds, frames * 7 * 16)
        self.assertEqual(calls["encoder/latents/linear"].multiply_adds, frames * 16 * 8)
        self.assertEqual(calls["encoder"].output, (100, 8))


if __name__ == "__main__":
    absltest.main()
