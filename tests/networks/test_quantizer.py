"""Residual vector quantisation against plain numpy."""

import chex
import jax.numpy as jnp
import numpy as np

from encodec_hk.networks import quantizer
from tests import numpy_layers

CODEBOOKS, ENTRIES, DIM = 6, 64, 8


class QuantizerTest(chex.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        scale = 0.6 ** np.arange(CODEBOOKS)[:, None, None]
        self.codebooks = (scale * rng.standard_normal((CODEBOOKS, ENTRIES, DIM))).astype(np.float32)
        self.latents = rng.standard_normal((3, 50, DIM)).astype(np.float32)

    @chex.variants(with_jit=True, without_jit=True)
    def test_codes_equal_numpy(self):
        codes = np.asarray(self.variant(quantizer.encode)(self.codebooks, self.latents))
        chex.assert_shape(codes, (3, CODEBOOKS, 50))
        chex.assert_type(codes, jnp.int32)
        for row, latents in zip(codes, self.latents, strict=True):
            expected, margins = numpy_layers.quantize(self.codebooks, latents)
            self.assertGreater(margins.min(), 1e-5)  # else a tie would have no right answer
            np.testing.assert_array_equal(row, expected)

    def test_energies_computed_once(self):
        energies = quantizer.energies(self.codebooks)
        expected = (self.codebooks.astype(np.float64) ** 2).sum(axis=2)
        np.testing.assert_allclose(energies, expected, rtol=1e-6)
        for count in (2, CODEBOOKS):
            np.testing.assert_array_equal(
                quantizer.encode(self.codebooks, self.latents, count, energies),
                quantizer.encode(self.codebooks, self.latents, count),
            )

    @chex.variants(with_jit=True, without_jit=True)
    def test_decoding_sums_the_entries(self):
        rng = np.random.default_rng(1)
        codes = rng.integers(0, ENTRIES, (2, CODEBOOKS, 9))
        latents = self.variant(quantizer.decode)(self.codebooks, codes)
        expected = sum(book[codes[:, k]] for k, book in enumerate(self.codebooks))
        np.testing.assert_allclose(latents, expected, atol=1e-6)

    def test_fewer_codebooks_give_the_first_codes(self):
        every = quantizer.encode(self.codebooks, self.latents)
        for count in range(1, CODEBOOKS):
            some = quantizer.encode(self.codebooks[:count], self.latents)
            np.testing.assert_array_equal(some, every[:, :count])

    def test_the_first_of_equal_entries(self):
        book = np.zeros((1, 4, 2), np.float32)
        book[0, 2] = book[0, 3] = 1.0
        codes = quantizer.encode(book, np.ones((1, 1, 2), np.float32))
        self.assertEqual(int(codes[0, 0, 0]), 2)
