"""Brightness of spectrograms."""

import numpy as np
from absl.testing import absltest

from encodec_hk.sound import spectrogram_image


class LevelsTest(absltest.TestCase):
    def test_by_hand(self):
        decibels = np.array([[0.0, -10.0], [-41.0, -90.0], [10.0, -100.0]])
        image = spectrogram_image.levels(decibels, top=-10.0, num_levels=9)
        self.assertEqual(image.dtype, np.uint8)
        np.testing.assert_array_equal(image, [[8, 0], [4, 0], [8, 8]])
        self.assertEqual(spectrogram_image.levels(decibels, top=0.0).max(), 255)


if __name__ == "__main__":
    absltest.main()
