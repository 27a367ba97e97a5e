"""Files of version 1 whose blocks a language model has coded."""

import dataclasses
import io

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from encodec_hk import bitstream
from encodec_hk.bitstream import version1_layout
from tests import bitstream_files as files

LANGUAGE = "fedcba9876543210" * 4


class Coder:
    """Stands for a language model: codes that all equal the first take six bytes."""

    rows = 3
    max_codebooks = 8
    fingerprint = LANGUAGE

    def __init__(self):
        self.calls = []  # blocks of each call of `decode`

    def encode(self, blocks):
        return [self._bytes(block) for block in blocks]

    def _bytes(self, block):
        first = int(block[0, 0])
        if (block == first).all():
            return first.to_bytes(6, "big")
        return bytes(2 * block.size + 2)

    def decode(self, payloads, frames, num_codebooks):
        self.calls.append(len(payloads))
        found = []
        for data, count in zip(payloads, frames, strict=True):
            first = int.from_bytes(data, "big")
            is_right = len(data) == 6 and first < 1024
            found.append(np.full((num_codebooks, count), first, np.int32) if is_right else None)
        return found


def coded_file(base=files.PLAIN, num_frames=750, random_blocks=(4,), size=75, flushes=(), **fields):
    """Return a file and its codes: constant blocks but for some."""
    like = files.header(base, language=LANGUAGE, **fields)
    codes = np.repeat(np.arange(-(-num_frames // size)), size)[:num_frames]
    codes = np.tile(codes, (like.num_codebooks, 1)).astype(np.int32)
    for block in random_blocks:
        part = slice(block * size, (block + 1) * size)
        codes[:, part] = files.random_codes(like, codes[:, part].shape[1])
    file = io.BytesIO()
    writer = bitstream.open_writer(file, like, coder=Coder())
    for index, first in enumerate(range(0, num_frames, size)):
        scales = np.ones(1, np.float32) if like.normalize else None
        writer.write(codes[:, first : first + size], scales)
        if index in flushes:
            writer.flush()
    writer.finish(None)
    return file.getvalue(), codes


def read(data, coder=None, **settings):
    coder = coder or Coder()
    file = data if hasattr(data, "read") else io.BytesIO(data)
    reader = bitstream.open_reader(file, coder=lambda header: coder)
    return list(reader.blocks(**settings)), reader, coder


class LanguageFilesTest(parameterized.TestCase):
    @parameterized.parameters(False, True)
    def test_round_trip(self, is_pipe):
        data, codes = coded_file(num_frames=770)
        blocks, reader, coder = read(files.Pipe(data) if is_pipe else data)
        np.testing.assert_array_equal(files.joined(blocks), codes)
        self.assertEqual(reader.header.language, LANGUAGE)
        self.assertEqual(reader.warnings, [])
        self.assertEqual(max(coder.calls), 1 if is_pipe else 3)
        # Ten blocks of six bytes, of which the last is short, and one that would not shrink.
        self.assertEqual((reader.coded_bytes, reader.plain_bytes), (10 * 6 + 750, 10 * 750 + 200))

    def test_segments(self):
        data, codes = coded_file(files.SEGMENTED, num_frames=450, size=150, random_blocks=(1,))
        blocks, _, _ = read(data)
        np.testing.assert_array_equal(files.joined(blocks), codes)
        self.assertEqual([block.scale for block in blocks], [1.0] * 3)

    @parameterized.parameters(0, 1, 74, 75, 300, 311, 599, 600, 601, 749)
    def test_seeking(self, start):
        for flushes in ((), range(10)):
            data, codes = coded_file(flushes=flushes)
            blocks, _, coder = read(data, start_frame=start)
            np.testing.assert_array_equal(files.joined(blocks), codes[:, start:])
            self.assertLessEqual(sum(coder.calls), 10 - start // 75)

    @parameterized.parameters(False, True)
    def test_damage_loses_a_block_alone(self, is_pipe):
        data, codes = coded_file()
        place = data.index(version1_layout.MARKER) + 26 + 20 + 3  # in the codes of block 1
        data = bytearray(data)
        data[place] ^= 1
        data = bytes(data)
        with self.assertRaisesRegex(bitstream.EcdcError, "^damaged block at 1.00 s to 2.00 s"):
            read(data)
        blocks, reader, _ = read(files.Pipe(data) if is_pipe else data, recover=True)
        codes[:, 75:150] = 0
        np.testing.assert_array_equal(files.joined(blocks), codes)
        self.assertEqual([block.is_damaged for block in blocks], [i == 1 for i in range(10)])
        self.assertEqual(reader.warnings, ["damaged block at 1.00 s to 2.00 s"])

    def test_lost_heads(self):
        data, codes = coded_file()
        start = data.index(version1_layout.MARKER)
        data = data[: start + 26] + data[start + 3 * 26 :]  # without blocks 1 and 2
        blocks, _, _ = read(data, recover=True)
        codes[:, 75:225] = 0
        np.testing.assert_array_equal(files.joined(blocks), codes)

    def test_payload_that_the_model_refuses(self):
        like = files.header(language=LANGUAGE)
        layout = version1_layout.layout_for(like)
        data = version1_layout.header_bytes(layout)
        for first, size in ((0, 6), (75, 8), (150, 6)):  # the second has a word too many
            data += version1_layout.block_bytes(first, 75, bytes(size))
        data += version1_layout.end_bytes(225, None, [])
        with self.assertRaisesRegex(bitstream.EcdcError, "^damaged block at 1.00 s to 2.00 s"):
            read(data)
        blocks, _, _ = read(data, recover=True)
        self.assertEqual([block.is_damaged for block in blocks], [False, True, False])

    def test_no_model(self):
        data, _ = coded_file()
        reader = bitstream.open_reader(io.BytesIO(data))
        with self.assertRaisesRegex(
            bitstream.EcdcError, "^needs the language model fedcba9876543210 of the codec$"
        ):
            list(reader.blocks())
        found = list(reader.blocks(decode=False))
        self.assertEqual(sum(block.codes.shape[1] for block in found), 750)
        self.assertEqual((reader.coded_bytes, reader.plain_bytes), (9 * 6 + 750, 7500))

    def test_another_model(self):
        data, _ = coded_file()
        other = Coder()
        other.fingerprint = "00" * 32
        with self.assertRaisesRegex(
            bitstream.EcdcError,
            "^made with language model fedcba9876543210, the one here is 0000000000000000$",
        ):
            read(data, other)
        with self.assertRaisesRegex(ValueError, "^coder: got another"):
            bitstream.open_writer(io.BytesIO(), files.header(language=LANGUAGE), coder=other)

    def test_too_many_codebooks(self):
        like = files.header(language=LANGUAGE, num_codebooks=9)
        with self.assertRaisesRegex(ValueError, "^num_codebooks: got 9, must be at most 8"):
            bitstream.open_writer(io.BytesIO(), like, coder=Coder())

    def test_wrong_headers(self):
        like = bitstream.meta_header("encodec_24khz", 8, 1000)
        with self.assertRaisesRegex(ValueError, "^language: got .*, must be None: version 0"):
            wrong = dataclasses.replace(like, language=LANGUAGE)
            bitstream.open_writer(io.BytesIO(), wrong, coder=Coder())
        with self.assertRaisesRegex(ValueError, "^lm: got True, must be False: version 0 alone"):
            bitstream.open_writer(io.BytesIO(), files.header(lm=True))
        like = files.header(language="zz")
        with self.assertRaisesRegex(ValueError, "^language: got 'zz', must be None or 64"):
            bitstream.open_writer(io.BytesIO(), like, coder=Coder())

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_fuzz(self, draw):
        data, _ = coded_file(flushes=(0, 5))
        data = bytearray(data)
        for _ in range(draw.draw(st.integers(1, 4))):
            at = draw.draw(st.integers(0, len(data) - 1))
            kind = draw.draw(st.integers(0, 2))
            if kind == 0:
                data[at] = draw.draw(st.integers(0, 255))
            elif kind == 1:
                del data[at : at + draw.draw(st.integers(1, 60))]
            else:
                data[at:at] = data[max(0, at - 40) : at]
            if not data:
                return
        for recover in (False, True):
            for file in (io.BytesIO(bytes(data)), files.Pipe(bytes(data), 1000)):
                try:
                    blocks, reader, _ = read(file, recover=recover)
                except bitstream.EcdcError as error:
                    self.assertNotIn("\n", str(error))
                    continue
                for block in blocks:
                    self.assertTrue((block.codes >> reader.header.bits == 0).all())


if __name__ == "__main__":
    absltest.main()
