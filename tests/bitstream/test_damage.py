"""Files of version 1 that were cut off or damaged: intact blocks are read, at their positions."""

import io
import struct
import zlib

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st

from encodec_hk import bitstream
from encodec_hk.bitstream import version1_layout
from encodec_hk.bitstream import version1_reader
from tests import bitstream_files as files

LIKE = files.header()
CODES = files.random_codes(LIKE, 750)
DATA = files.write(LIKE, CODES)
START = DATA.index(version1_layout.MARKER)  # offset of the first block
SIZE = 770  # bytes of a block
END = START + 10 * SIZE


def flip(data, *offsets):
    data = bytearray(data)
    for offset in offsets:
        data[offset] ^= 0x10
    return bytes(data)


def with_header(**fields):
    """Return the file with other bytes in its header, and their CRC-32."""
    data = bytearray(DATA)
    for offset, value in fields.items():
        offset = int(offset[1:])
        data[offset : offset + len(value)] = value
    struct.pack_into("!I", data, START - 4, zlib.crc32(data[: START - 4]))
    return bytes(data)


class DamageTest(parameterized.TestCase):
    def check(self, data, lost, warnings=None, most=10):
        """Read a file with the damaged blocks `lost`; all others are intact."""
        if lost:
            with self.assertRaisesRegex(
                bitstream.EcdcError,
                rf"^damaged blocks? at {lost[0]}\.00 s to .*; --recover replaces it by silence$",
            ):
                files.read(data)
        for file in (data, files.Pipe(data, 300)):
            blocks, reader = files.read(file, recover=True)
            position = 0
            for block in blocks:
                frames = block.codes.shape[1]
                self.assertEqual(block.start_frame, position)
                expected = CODES[:, position : position + frames]
                if block.is_damaged:
                    expected = 0 * expected
                np.testing.assert_array_equal(block.codes, expected)
                position += frames
            self.assertEqual(position, 75 * most)
            damaged = {block.start_frame // 75 for block in blocks if block.is_damaged}
            self.assertEqual(damaged, set(lost))
            if warnings is not None:
                self.assertEqual(reader.warnings, warnings)

    def test_whole(self):
        self.check(DATA, [], [])

    @parameterized.product(
        byte=(0, 1, 2, 3, 4, 7, 8, 11, 12, 15, 16, 19, 20, 21, SIZE - 1), block=(0, 3, 9)
    )
    def test_any_byte_of_a_block(self, byte, block):
        warning = f"damaged block at {block}.00 s to {block + 1}.00 s"
        self.check(flip(DATA, START + block * SIZE + byte), [block], [warning])

    def test_several(self):
        offsets = [
            START + block * SIZE + byte for block, byte in ((2, 9), (3, 50), (4, 1), (7, 30))
        ]
        warnings = ["damaged blocks at 2.00 s to 5.00 s", "damaged block at 7.00 s to 8.00 s"]
        self.check(flip(DATA, *offsets), [2, 3, 4, 7], warnings)

    def test_zeros(self):
        data = DATA[: START + 100] + bytes(4 * SIZE) + DATA[START + 100 + 4 * SIZE :]
        self.check(data, [0, 1, 2, 3, 4])

    def test_missing_bytes(self):
        offset = START + 3 * SIZE
        self.check(DATA[: offset + 5] + DATA[offset + 6 :], [3])
        self.check(DATA[:offset] + DATA[offset + SIZE :], [3])  # one block
        self.check(DATA[:offset] + DATA[offset + 2 * SIZE :], [3, 4])
        # Within codes, the reader misses the start of the next block.
        self.check(DATA[: offset + 100] + DATA[offset + 101 :], [3, 4])

    def test_additional_bytes(self):
        offset = START + 3 * SIZE
        for more in (b"x", version1_layout.MARKER, version1_layout.MARKER * 100, bytes(5000)):
            data = DATA[:offset] + more + DATA[offset:]
            blocks, reader = files.read(data)
            np.testing.assert_array_equal(files.joined(blocks), CODES)
        blocks, reader = files.read(DATA + b"more")
        self.assertEqual(reader.warnings, ["4 bytes after the end"])
        np.testing.assert_array_equal(files.joined(blocks), CODES)

    def test_a_block_twice(self):
        offset = START + 3 * SIZE
        blocks, _ = files.read(DATA[:offset] + DATA[offset - SIZE :])
        np.testing.assert_array_equal(files.joined(blocks), CODES)

    @parameterized.parameters(
        (START, 0), (START + 5, 0), (START + 25, 0), (START + SIZE - 1, 0), (START + SIZE, 1),
        (START + 9 * SIZE + 700, 9), (END, 10), (END + 10, 10), (END + 30, 10), (len(DATA) - 1, 10),
    )  # fmt: skip
    def test_cut_off(self, size, blocks):
        warning = f"cut off after {blocks}.00 s: the end is missing"
        self.check(DATA[:size], [], [warning], blocks)
        read, _ = files.read(DATA[:size])
        self.assertLen(read, blocks)

    def test_cut_off_of_a_known_length(self):
        data = files.write(files.header(num_samples=240_000), CODES)
        self.check(data[: START + 7 * SIZE + 3], [], None, 7)
        _, reader = files.read(data[: START + 7 * SIZE + 3])
        self.assertEqual(reader.warnings, ["cut off after 7.00 s of 10.00 s: the end is missing"])
        self.assertEqual(reader.header.num_samples, 240_000)
        _, reader = files.read(data[:-1])
        self.assertEqual(reader.warnings, ["no index: the end is missing or damaged"])
        # Damage in the last block.
        self.check(flip(data[: START + 8 * SIZE], START + 7 * SIZE), [7], None, 8)
        self.check(flip(data, START + 9 * SIZE, END), [9])
        _, reader = files.read(flip(data, START + 9 * SIZE, END), recover=True)
        self.assertEqual(
            reader.warnings,
            ["damaged block at 9.00 s to 10.00 s", "no index: the end is missing or damaged"],
        )

    def test_damage_to_the_end(self):
        data = flip(DATA, START + 8 * SIZE, START + 9 * SIZE, END)
        with self.assertRaisesRegex(
            bitstream.EcdcError,
            "^damaged from 8.00 s to the end of the file; --recover stops there$",
        ):
            files.read(data)
        blocks, reader = files.read(data, recover=True)
        self.assertEqual(reader.warnings, ["damaged from 8.00 s to the end of the file"])
        np.testing.assert_array_equal(files.joined(blocks), CODES[:, : 75 * 8])

    def test_end(self):
        data = flip(DATA, END + 25)
        self.check(data, [], ["no index: the end is damaged"])
        _, reader = files.read(data)
        self.assertIsNone(reader.header.num_samples)

    def test_writer_that_was_interrupted(self):
        file = io.BytesIO()
        writer = bitstream.open_writer(file, LIKE)
        blocks, reader = files.read(file.getvalue())
        self.assertEqual((blocks, reader.header.num_samples), ([], None))
        writer.write(CODES[:, :80])
        writer.flush()
        writer.write(CODES[:, 80:90])
        blocks, reader = files.read(file.getvalue())
        np.testing.assert_array_equal(files.joined(blocks), CODES[:, :80])
        self.assertEqual(reader.warnings, ["cut off after 1.07 s: the end is missing"])

    @parameterized.parameters(1, 10, 74, 75, 76, 160, 749)
    def test_start_frame(self, start):
        """Damage before it is ignored, and the frame is found nevertheless."""
        data = flip(DATA, START + 50, START + 2 * SIZE + 3)
        for file in (data, files.Pipe(data, 300)):
            blocks, reader = files.read(file, start, recover=True)
            self.assertEqual(blocks[0].start_frame, start)
            self.assertEqual(files.joined(blocks).shape, (8, 750 - start))
            lost = [block.start_frame for block in blocks if block.is_damaged]
            expected = [start] if start < 75 else []
            expected += [max(150, start)] if start < 225 else []
            self.assertEqual(lost, expected)

    def test_segments(self):
        data, like, codes, scales = files.segmented_file(4 * 47520 + 100)
        end = len(data) - 12 * 1 - 32
        last = end - 20 - 4 - 5  # the last segment has one frame of 5 bytes
        counts = files.segment_frames(like, 4 * 47520 + 100)
        self.assertEqual(counts, [150, 150, 150, 149, 1])
        ends = np.cumsum(counts)
        for damaged in ([last + 20], [last + 22, last - 10], [last, last - 10, last - 800]):
            for file in (flip(data, *damaged), files.Pipe(flip(data, *damaged), 99)):
                blocks, reader = files.read(file, recover=True)
                self.assertEqual([block.codes.shape[1] for block in blocks], counts)
                self.assertEqual([block.start_frame for block in blocks], list(range(0, 750, 150)))
                lost = [block.is_damaged for block in blocks]
                self.assertEqual(lost, [False] * (5 - len(damaged)) + [True] * len(damaged))
                for index, block in enumerate(blocks):
                    if not block.is_damaged:
                        part = codes[:, ends[index] - counts[index] : ends[index]]
                        np.testing.assert_array_equal(block.codes, part)
                        self.assertEqual(block.scale, scales[index])
        with self.assertRaisesRegex(bitstream.EcdcError, "^damaged block at 3.96 s to 4.95 s;"):
            files.read(flip(data, last + 20))

    @given(st.integers(1, 6), st.data())
    def test_any_damage_of_blocks_leaves_the_others(self, count, data):
        offsets = data.draw(
            st.lists(st.integers(START, END - 1), min_size=count, max_size=count), "offsets"
        )
        bits = data.draw(st.lists(st.integers(1, 255), min_size=count, max_size=count), "bits")
        damaged = bytearray(DATA)
        for offset, bit in zip(offsets, bits, strict=True):
            damaged[offset] ^= bit
        hit = [
            block
            for block in range(10)
            if damaged[START + block * SIZE :][:SIZE] != DATA[START + block * SIZE :][:SIZE]
        ]
        self.check(bytes(damaged), hit)

    def test_many_places(self):
        like = files.header(num_codebooks=1, sample_rate=320)  # blocks of one frame
        codes = files.random_codes(like, 1000)
        data = files.write(like, codes)
        offset = data.index(version1_layout.MARKER)
        data = flip(data, *range(offset + 21, offset + 22 * 1000, 2 * 22))
        blocks, reader = files.read(data, recover=True)
        self.assertEqual(sum(block.is_damaged for block in blocks), 500)
        self.assertLen(reader.warnings, version1_reader.MAX_DAMAGE + 1)
        self.assertEqual(reader.warnings[-1], "400 more damaged blocks")
        list(reader.blocks(recover=True))  # read again: the warnings are not doubled
        self.assertLen(reader.warnings, version1_reader.MAX_DAMAGE + 1)


class ForgedTest(parameterized.TestCase):
    """Wrong content with valid checksums."""

    @parameterized.parameters(
        ({"_9": b"\1"}, "header: name: got 0 bytes, must be 19"),
        ({"_9": b"\2"}, "header: coding: got 2, this program reads 0"),
        ({"_10": b"\2"}, "header: flags: got 0x2, this program knows 0x1"),
        ({"_11": b"\0"}, "header: bits: got 0, must be a whole number, 1 to 24"),
        ({"_12": b"\0\0"}, "header: channels: got 0, must be"),
        (
            {"_14": b"\xff\xff"},
            "header: frames of a block: got 75, must be a whole number, 1 to 32",
        ),
        ({"_16": bytes(4)}, "header: sample_rate: got 0, must be"),
        ({"_20": bytes(4)}, "header: hop_length: got 0, must be"),
        ({"_24": b"\xff" * 4}, "header: frames of a block: got 4294967295, must be"),
        ({"_28": b"\0\0\xff\xff"}, "header: segment_stride: got None, must be"),
        ({"_28": b"\x7f\xff\xff\xff\0\0\0\1"}, "header: codes of a segment: got 53687096, must"),
        ({"_32": b"\0\0\xff\xff"}, "header: segment_stride: got 65535, must be None"),
        ({"_36": b"\xff" * 4 + bytes(4)}, "header: num_samples: got 18446744069414584320"),
        ({"_76": b"\2"}, "header: name: got 19 bytes, must be 2"),
        ({"_77": b"\n"}, r"header: name: got '\\nncodec_24khz_small', must be"),
        ({"_77": b"\xff"}, "header: name: got b'.xffncodec.*', must be UTF-8"),
    )
    def test_header(self, fields, message):
        with self.assertRaisesRegex(bitstream.EcdcError, f"^{message}"):
            files.read(with_header(**fields))

    def test_damaged_header(self):
        with self.assertRaisesRegex(bitstream.EcdcError, "^damaged header: its CRC-32 differs$"):
            files.read(flip(DATA, 20))

    def test_position_far_ahead(self):
        """It is not a block: else a reader would return years of silence."""
        forged = version1_layout.block_bytes(2**32 - 100, 75, DATA[START + 20 : START + SIZE])
        end = version1_layout.end_bytes(2**32 - 25, None, [])
        blocks, reader = files.read(DATA[: START + SIZE] + forged + end, recover=True)
        self.assertLen(blocks, 1)
        self.assertEqual(reader.warnings, ["damaged from 1.00 s to the end of the file"])
        # Near enough.
        forged = version1_layout.block_bytes(75 * 500, 75, DATA[START + 20 : START + SIZE])
        blocks, _ = files.read(DATA[: START + SIZE] + forged, recover=True)
        self.assertLen(blocks, 501)

    @parameterized.parameters(
        (version1_layout.end_bytes(750, 1, []),),  # another length
        (version1_layout.end_bytes(750, 2**63, []),),
        (version1_layout.end_bytes(10**6, 320 * 10**6, []),),
    )
    def test_ends(self, end):
        _, reader = files.read(DATA[:END] + end, recover=True)
        self.assertIsNone(reader.header.num_samples)
        self.assertNotEmpty(reader.warnings)

    @parameterized.parameters(
        ([(0, 2**63)],), ([(75, START)],), ([(0, START + 1)],), ([(0, 0), (300, 9)] * 512,)
    )
    def test_index(self, points):
        """A wrong index is not used."""
        end = version1_layout.end_bytes(
            705, None, [version1_layout.Point(*point) for point in points]
        )
        codes = [CODES[:, :30], CODES[:, 30:]]
        short = io.BytesIO()
        writer = bitstream.open_writer(short, LIKE)
        writer.write(codes[0])
        writer.flush()  # a short block, so that the reader needs the index
        writer.write(codes[1][:, :675])
        blocks, _ = files.read(short.getvalue() + end, 400)
        self.assertEqual(blocks[0].start_frame, 400)
        np.testing.assert_array_equal(
            blocks[0].codes, CODES[:, 400 : 400 + len(blocks[0].codes[0])]
        )

    def test_scale(self):
        data, like, *_ = files.segmented_file()
        start = data.index(version1_layout.MARKER)
        payload = struct.pack("!f", np.nan) + bytes(750)
        forged = data[:start] + version1_layout.block_bytes(0, 150, payload) + data[start + 774 :]
        with self.assertRaisesRegex(bitstream.EcdcError, "^damaged block at 0.00 s to 0.99 s"):
            files.read(forged)


if __name__ == "__main__":
    absltest.main()
