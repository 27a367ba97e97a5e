"""Blocks of codes to bytes and back."""

import hashlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.language import language_coder
from tests import compilation
from tests.language import numpy_language
from tests.language import random_language

CODER = language_coder.LanguageCoder(random_language.model())
ORACLE = numpy_language.Oracle(random_language.params(), random_language.SIZES.dilations)
GOLDEN = "d719d9a1937a82625c30a12896c905ff08851bc52fec112fcdb3debc45838677"


def blocks(frames=(9, 8, 1, 9, 3), num_codebooks=4):
    codes = random_language.codes(len(frames), max(frames), num_codebooks=num_codebooks)
    return [row[:, :count] for row, count in zip(codes, frames, strict=True)]


class LanguageCoderTest(parameterized.TestCase):
    @parameterized.parameters(1, 4)
    def test_equals_numpy(self, num_codebooks):
        for block in blocks((9, 1), num_codebooks):
            (data,) = CODER.encode([block])
            self.assertEqual(data, ORACLE.encode(block))
            np.testing.assert_array_equal(ORACLE.decode(data, *block.shape), block)

    def test_round_trip_alone_and_together(self):
        given = blocks()
        data = CODER.encode(given)
        frames = [block.shape[1] for block in given]
        together = CODER.decode(data, frames, 4)
        alone = [
            CODER.decode([each], [count], 4)[0] for each, count in zip(data, frames, strict=True)
        ]
        for block, *found in zip(given, together, alone, strict=True):
            for each in found:
                np.testing.assert_array_equal(each, block)

    @parameterized.parameters(1, 2)
    def test_warm_up_compiles_all(self, num_blocks):
        sizes = random_language.SIZES._replace(dilations=(1, num_blocks))  # not compiled yet
        coder = language_coder.LanguageCoder(random_language.model(sizes))
        given = blocks()[:num_blocks]
        data, frames = coder.encode(given), [block.shape[1] for block in given]
        with compilation.counted() as compiled:
            coder.warm_up(num_blocks, 4)
            self.assertNotEmpty(compiled)
            compiled.clear()
            found = coder.decode(data, frames, 4)
            self.assertEmpty(compiled)
        for block, each in zip(given, found, strict=True):
            np.testing.assert_array_equal(each, block)

    def test_golden_bytes(self):
        digest = hashlib.sha256(b"".join(CODER.encode(blocks()))).hexdigest()
        self.assertEqual(digest, GOLDEN)

    def test_length(self):
        for block in blocks((40, 9)):
            (data,) = CODER.encode([block])
            found = ORACLE.all_frequencies(block)
            own = np.take_along_axis(found, block[..., None], axis=-1)
            ideal = -np.log2(own / 65536).sum() / 8
            self.assertBetween(len(data) - ideal, 0, 4)

    @parameterized.parameters(
        ("a word more", lambda data: data + b"ab"),
        ("a byte more", lambda data: data + b"a"),
        ("a word less", lambda data: data[:-2]),
        ("another state", lambda data: b"\0" + data[1:]),
        ("a state below the first", lambda data: b"\0\0" + data[2:]),
        ("nothing", lambda data: b""),
        ("only a state", lambda data: data[:4]),
        ("another word", lambda data: data[:6] + bytes([data[6] ^ 1]) + data[7:]),
        ("far too many words", lambda data: data * 50),
    )
    def test_damage_is_found_and_stays_in_its_row(self, name, damage):
        del name
        given = blocks()
        data = CODER.encode(given)
        data[1] = damage(data[1])
        found = CODER.decode(data, [block.shape[1] for block in given], 4)
        self.assertIsNone(found[1])
        for row in (0, 2, 3, 4):
            np.testing.assert_array_equal(found[row], given[row])


if __name__ == "__main__":
    absltest.main()
