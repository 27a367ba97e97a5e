"""Files of version 1 with a real language model: golden bytes, and damage of all kinds."""

import dataclasses
import hashlib
import io
import time
import tracemalloc

import numpy as np
from absl.testing import absltest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from encodec_hk import bitstream
from encodec_hk.bitstream import version1_layout
from encodec_hk.language import language_coder
from encodec_hk.language import language_file
from tests import bitstream_files as files
from tests.language import random_language


def peaked_model():
    """Return a model whose first codes are likely, so that blocks shrink."""
    params = random_language.params()
    for k in range(random_language.SIZES.num_codebooks):
        values = params[f"head_{k}_logits"]
        values["w"] = np.zeros_like(values["w"])
        values["b"] = np.where(np.arange(64) < 4, 200, 0).astype(np.int32) << values["shift"]
    return language_file.LanguageModel(
        params, random_language.SIZES, "peaked", random_language.CODEC, "", ""
    )


CODER = language_coder.LanguageCoder(peaked_model(), rows=4)
LIKE = dataclasses.replace(
    files.header(num_codebooks=4, bits=6), hop_length=2400, language=CODER.fingerprint
)  # ten frames in a block
CODES = np.where(
    np.arange(64) // 10 == 3, random_language.codes(1, 64)[0], random_language.codes(1, 64)[0] % 4
)
GOLDEN = "e92de2169ef46c7aee5526f2075f99cd4cbe10e1b5bcf02107f5254776d74f1a"


def whole():
    file = io.BytesIO()
    writer = bitstream.open_writer(file, LIKE, coder=CODER)
    writer.write(CODES)
    writer.finish(64 * 2400)
    return file.getvalue()


DATA = whole()


# A header that allows blocks of 4096 frames, the most.
LONG = dataclasses.replace(LIKE, hop_length=1, sample_rate=4096)
SECONDS = 0.2  # of processor time, for a file of some blocks
BYTES = 50e6


def payloads():
    """Draw bytes of a block: random, or changed from those that the coder makes."""
    right = st.sampled_from([CODER.encode([CODES[:, :10]])[0], CODER.encode([CODES])[0]])
    return st.one_of(
        st.binary(min_size=4, max_size=60),
        st.tuples(right, st.binary(max_size=20)).map(lambda parts: parts[0] + parts[1]),
        st.tuples(right, st.integers(4, 60)).map(lambda parts: parts[0][: parts[1]]),
        st.tuples(right, st.integers(0, 59), st.binary(min_size=1, max_size=3)).map(
            lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + len(parts[2]) :]
        ),
    ).map(lambda data: data[: len(data) // 2 * 2])


def read(data, **settings):
    reader = bitstream.open_reader(io.BytesIO(data), coder=lambda header: CODER)
    return list(reader.blocks(**settings)), reader


class LanguageEcdcTest(absltest.TestCase):
    def test_golden_file(self):
        self.assertEqual(hashlib.sha256(DATA).hexdigest(), GOLDEN)

    def test_round_trip(self):
        blocks, reader = read(DATA)
        np.testing.assert_array_equal(files.joined(blocks), CODES)
        self.assertLess(reader.coded_bytes, 0.8 * reader.plain_bytes)
        np.testing.assert_array_equal(files.joined(read(DATA, start_frame=37)[0]), CODES[:, 37:])

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_fuzz(self, draw):
        data = bytearray(DATA)
        for _ in range(draw.draw(st.integers(1, 3))):
            at = draw.draw(st.integers(0, len(data) - 1))
            if draw.draw(st.booleans()):
                data[at] = draw.draw(st.integers(0, 255))
            else:
                del data[at : at + draw.draw(st.integers(1, 20))]
        for recover in (False, True):
            try:
                blocks, reader = read(bytes(data), recover=recover)
            except bitstream.EcdcError as error:
                self.assertNotIn("\n", str(error))
                continue
            for block in blocks:
                first, count = block.start_frame, block.codes.shape[1]
                expected = 0 if block.is_damaged else CODES[:, first : first + count]
                np.testing.assert_array_equal(block.codes, expected)
            self.assertTrue(all("\n" not in line for line in reader.warnings))

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from([1, 10, 64, 150, 151, 4096]), payloads()), max_size=6)
    )
    def test_forged_blocks_end_in_time(self, blocks):
        """Blocks with valid checksums that claim up to 4096 frames."""
        data, first = version1_layout.header_bytes(version1_layout.layout_for(LONG)), 0
        for frames, payload in blocks:
            data += version1_layout.block_bytes(first, frames, payload)
            first += frames

        def read_both():
            for recover in (False, True):
                try:
                    found, _ = read(data, recover=recover)
                except bitstream.EcdcError as error:
                    self.assertNotIn("\n", str(error))
                else:
                    self.assertLessEqual(sum(block.codes.shape[1] for block in found), first)

        read_both()  # fills caches
        start = time.process_time()
        read_both()
        self.assertLess(time.process_time() - start, SECONDS)
        tracemalloc.start()
        read_both()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.assertLess(peak, BYTES)

    def test_a_forged_block_costs_what_its_words_cost(self):
        """A block of 24 bytes that claims 4096 frames stops after a few of them."""
        header = version1_layout.header_bytes(version1_layout.layout_for(LONG))
        data = header + version1_layout.block_bytes(0, 4096, b"\x12" * 24)
        with self.assertRaisesRegex(bitstream.EcdcError, "damaged block at 0.00 s"):
            read(data)
        seconds = []
        for _ in range(3):
            start = time.process_time()
            with self.assertRaises(bitstream.EcdcError):
                read(data)
            seconds.append(time.process_time() - start)
        whole = CODER.encode([np.zeros((4, 4096), np.int32)])
        start = time.process_time()
        self.assertIsNotNone(CODER.decode(whole, [4096], 4)[0])
        self.assertLess(min(seconds), (time.process_time() - start) / 4)


if __name__ == "__main__":
    absltest.main()
