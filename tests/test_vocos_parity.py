"""The Vocos decoder at its published size beside the package `vocos`: sound, sample by sample."""

import functools
import pathlib
import tempfile

import numpy as np
import pytest
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from encodec_hk import config
from encodec_hk.convert import conversion
from tests import vocos_references

pytestmark = pytest.mark.compiles_normally

# Frames. A convolution sees 7, all of them 55, a window spans 4; a block has 75.
LENGTHS = (1, 2, 3, 4, 5, 27, 28, 29, 55, 56, 75, 76, 150, 151)
FULL_SCALE_ERROR = 1e-4


@functools.cache
def codec():
    with tempfile.TemporaryDirectory() as folder:
        source = vocos_references.published().save(pathlib.Path(folder))
        found = conversion.read(str(source), None, licence="", say=lambda line: None)
    return encodec_hk.Codec(found.model_config, found.params, codes_of=found.codes_of)


class VocosParityTest(parameterized.TestCase):
    @parameterized.parameters(*enumerate(vocos_references.RATES))
    @pytest.mark.slow
    def test_ragged_batches_and_streams(self, norm, kbps):
        reference = vocos_references.published()
        count = config.num_codebooks_for(codec().model_config, kbps)
        lengths = (*LENGTHS, 1000) if norm == 3 else LENGTHS
        codes = np.random.default_rng(norm).integers(0, 1024, (len(lengths), count, max(lengths)))
        found = codec().decode(codec().encoded(codes, num_frames=lengths))
        largest = peak = 0.0
        for row, audio, length in zip(codes, found, lengths, strict=True):
            expected = reference.decode(row[:, :length], norm)
            self.assertLen(expected, 320 * length)
            difference = np.abs(audio[: 320 * length, 0] - expected).max()
            self.assertLess(difference, FULL_SCALE_ERROR, f"{length} frames at {kbps} kbps")
            largest, peak = max(largest, difference), max(peak, np.abs(expected).max())
        print(f"{kbps} kbps: {largest:.1e} at most, of a peak of {peak:.2f}")
        self.assertBetween(peak, 0.3, 10)
        with codec().stream_decoder(num_codebooks=count) as stream:
            cuts = (0, 1, 2, 9, 10, 85, 120, 150)
            own = codes[LENGTHS.index(150)][:, :150]
            pieces = [stream.push(own[:, a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
            pieces.append(stream.finish())
        whole = reference.decode(own, norm)
        np.testing.assert_allclose(np.concatenate(pieces)[:, 0], whole, rtol=0, atol=1e-4)

    def test_the_reference_is_worth_comparing_with(self):
        """Every norm and every code counts."""
        reference = vocos_references.published()
        codes = np.random.default_rng(9).integers(0, 1024, (16, 20))
        outputs = [reference.decode(codes, norm) for norm in range(4)]
        for one, other in zip(outputs, outputs[1:], strict=False):
            self.assertGreater(np.abs(one - other).max(), 1e-2)
        codes[15, 10] += 1
        changed = np.abs(reference.decode(codes % 1024, 0) - outputs[0])
        self.assertGreater(changed.max(), 30 * FULL_SCALE_ERROR)


if __name__ == "__main__":
    absltest.main()
