"""Mel filters against transformers, and the brightness of spectrograms."""

import warnings

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from transformers import audio_utils

from encodec_hk.sound import spectra

RATES = (16000, 24000, 44100, 48000)
WINDOWS = (64, 512, 2048)


class MelFiltersTest(parameterized.TestCase):
    @parameterized.parameters(
        *((rate, window, 64) for rate in RATES for window in WINDOWS),
        (8000, 32, 16),
        (16000, 1024, 80),
    )
    def test_equals_transformers(self, rate, window, bands):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about bands without a bin
            expected = audio_utils.mel_filter_bank(
                num_frequency_bins=window // 2 + 1,
                num_mel_filters=bands,
                min_frequency=0.0,
                max_frequency=rate / 2,
                sampling_rate=rate,
                norm=None,
                mel_scale="htk",
            )
        filters = spectra.mel_filters(rate, window, bands)
        self.assertEqual(filters.shape, (window // 2 + 1, bands))
        self.assertEqual(filters.dtype, np.float64)
        np.testing.assert_allclose(filters, expected, rtol=0, atol=1e-11)
        single = filters.astype(np.float32)
        np.testing.assert_array_equal(filters.any(axis=0), single.any(axis=0))
        self.assertLessEqual(filters.max(), 1)
        if bands == 64:
            self.assertGreater(filters.max(), 0.9)

    def test_result_may_be_changed(self):
        first = spectra.mel_filters(8000, 64, 8)
        first[:] = 7
        self.assertLessEqual(spectra.mel_filters(8000, 64, 8).max(), 1)


class LevelsTest(absltest.TestCase):
    def test_by_hand(self):
        decibels = np.array([[0.0, -10.0], [-41.0, -90.0], [10.0, -100.0]])
        image = spectra.levels(decibels, top=-10.0, num_levels=9)
        self.assertEqual(image.dtype, np.uint8)
        np.testing.assert_array_equal(image, [[8, 0], [4, 0], [8, 8]])
        self.assertEqual(spectra.levels(decibels, top=0.0).max(), 255)


if __name__ == "__main__":
    absltest.main()
