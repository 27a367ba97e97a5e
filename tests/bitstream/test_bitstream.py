"""Files of version 1 and packing: round trips in pieces of any size, through files and pipes."""

import io
import math
import os
import pathlib
import re
import tempfile
import threading
import time
import tracemalloc

import numpy as np
import pytest
from absl.testing import absltest
from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st

from encodec_hk import bitstream
from encodec_hk import framing
from encodec_hk.bitstream import packing
from tests import bitstream_files as files

DOCS = (pathlib.Path(__file__).parents[2] / "docs" / "ecdc.md").read_text()


def packed_by_hand(codes, bits):
    number = sum(int(code) << bits * index for index, code in enumerate(codes))
    return number.to_bytes(-(-len(codes) * bits // 8), "little")


class PackingTest(parameterized.TestCase):
    @parameterized.parameters(range(1, packing.MAX_BITS + 1))
    def test_every_width(self, bits):
        rng = np.random.default_rng(bits)
        for count in (0, 1, 2, 7, 8, 9, 100):
            codes = rng.integers(0, 2**bits, (3, count))
            packed = packing.pack(codes, bits)
            self.assertEqual(packed.shape, (3, packing.num_bytes(count, bits)))
            for row, data in zip(codes, packed, strict=True):
                self.assertEqual(data.tobytes(), packed_by_hand(row, bits))
                unpacked = packing.unpack(data.tobytes(), bits, count)
                np.testing.assert_array_equal(unpacked, row)
                self.assertEqual(unpacked.dtype, np.int32)

    @parameterized.parameters((1, 10), (3, 11), (1, 24), (20_000, 1))
    def test_several_steps_of_packing(self, rows, bits):
        count = 10 if rows > 100 else 2**16 + 13
        codes = np.random.default_rng(0).integers(0, 2**bits, (rows, count))
        packed = packing.pack(codes, bits)
        for index in (0, rows - 1):
            data = packed[index].tobytes()
            self.assertEqual(data, packed_by_hand(codes[index], bits))
            np.testing.assert_array_equal(packing.unpack(data, bits, count), codes[index])

    @pytest.mark.slow
    @parameterized.parameters(10, 11)
    def test_speed(self, bits):
        """20 million codes a second, of an hour at 6 kbps; best of ten tries."""
        codes = np.random.default_rng(0).integers(0, 2**bits, (1, 8 * 75 * 3600), np.int32)
        data = packing.pack(codes, bits).tobytes()
        for name, run in (
            ("pack", lambda: packing.pack(codes, bits)),
            ("unpack", lambda: packing.unpack(data, bits, codes.size)),
        ):
            seconds = []
            for _ in range(10):
                start = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - start)
            self.assertGreater(codes.size / min(seconds), 20e6, name)


class RoundTripTest(parameterized.TestCase):
    @given(st.data())
    def test_any_codes_in_any_pieces(self, data):
        like = files.header(
            num_codebooks=data.draw(st.integers(1, 33), "codebooks"),
            bits=data.draw(st.integers(1, 24), "bits"),
            hop_length=data.draw(st.sampled_from([1, 320, 2000, 24000, 50000]), "hop"),
        )
        num_frames = data.draw(st.integers(0, 400), "frames")
        codes = files.random_codes(like, num_frames, num_frames)
        cuts = sorted(data.draw(st.lists(st.integers(0, num_frames), max_size=6), "cuts"))
        flushes = data.draw(st.sets(st.integers(0, 6)), "flushes")
        written = files.write(like, codes, cuts=cuts, flushes=flushes)
        blocks, reader = files.read(written)
        self.assertEqual(reader.header, like)
        self.assertEqual(reader.warnings, [])
        position = 0
        for block in blocks:
            self.assertEqual(block.start_frame, position)
            self.assertEqual(block.codes.dtype, np.int32)
            np.testing.assert_array_equal(
                block.codes, codes[:, position : position + block.codes.shape[1]]
            )
            position += block.codes.shape[1]
        self.assertEqual(position, num_frames)
        if not flushes:  # the pieces make no difference
            self.assertEqual(written, files.write(like, codes))

    @parameterized.parameters(np.uint8, np.int16, np.uint64)
    def test_any_integers(self, kind):
        like = files.header(bits=8)
        codes = files.random_codes(like, 90)
        data = files.write(like, codes.astype(kind), cuts=[1, 2])
        self.assertEqual(data, files.write(like, codes))
        like = bitstream.meta_header("encodec_24khz", 3, 320 * 90)
        codes = codes[:3] % 100
        data = files.write(like, codes.astype(kind), cuts=[1, 2])
        self.assertEqual(data, files.write(like, codes))

    @parameterized.parameters(1, 47520, 47521, 48000, 95040, 95201, 4 * 47520 + 100)
    def test_segments(self, num_samples):
        data, like, codes, scales = files.segmented_file(num_samples)
        blocks, reader = files.read(data)
        self.assertEqual(reader.header.num_samples, num_samples)  # read from the end of the file
        self.assertEqual(
            [block.codes.shape[1] for block in blocks], files.segment_frames(like, num_samples)
        )
        self.assertEqual([block.scale for block in blocks], scales.tolist())
        self.assertEqual(
            [block.start_frame for block in blocks], list(range(0, 150 * len(blocks), 150))
        )
        np.testing.assert_array_equal(files.joined(blocks), codes)

    @parameterized.parameters(
        {"segment_length": 12000, "segment_stride": 6001, "normalize": False},
        {"segment_length": None, "segment_stride": None},
    )
    def test_other_segments_and_scales(self, **fields):
        if fields["segment_length"] is not None:
            data, _, codes, _ = files.segmented_file(50_000, **fields)
            blocks, _ = files.read(data)
            self.assertEqual({block.scale for block in blocks}, {None})
        else:  # one scale for the whole signal, in every block
            like = files.header(files.SEGMENTED, **fields)
            codes = files.random_codes(like, 400)
            scales = np.full(2, 0.3, np.float32)
            blocks, _ = files.read(files.write(like, codes, 128_000, scales, cuts=[100]))
            self.assertEqual({block.scale for block in blocks}, {float(np.float32(0.3))})
        np.testing.assert_array_equal(files.joined(blocks), codes)

    @parameterized.parameters(
        {"name": "ü" * 100, "sample_rate": 1, "hop_length": 2**31 - 1, "fingerprint": None},
        {"channels": 65535, "num_codebooks": 65535, "bits": 24, "num_samples": 0},
        {"num_codebooks": 4, "bits": 11, "sample_rate": 32000, "hop_length": 640},
        {"num_samples": 2**48 - 1, "fingerprint": "f" * 64},
    )
    def test_headers(self, **fields):
        like = files.header(**fields)
        file = io.BytesIO()
        bitstream.open_writer(file, like)
        reader = bitstream.open_reader(io.BytesIO(file.getvalue()))
        self.assertEqual(reader.header, like)

    def test_derived_values(self):
        like = files.header(num_samples=48001)
        self.assertEqual((like.kbps, like.frame_rate, like.duration), (6.0, 75, 48001 / 24000))
        self.assertEqual((like.end_frame, like.framing.has_segments), (151, False))
        self.assertEqual(like.framing.num_frames(48001), 151)
        like = files.header(files.SEGMENTED, num_samples=95201)
        self.assertEqual((like.kbps, like.framing), (6.0, framing.Framing(48000, 47520, 320)))
        self.assertEqual((like.framing.num_segments(95201), like.framing.segment_frames), (3, 150))
        self.assertEqual((like.framing.num_frames(95201), like.end_frame), (301, 450))
        self.assertAlmostEqual(like.seconds(301), 2 * 0.99)

    def test_length_known_at_the_end(self):
        like = files.header(num_samples=1000)  # a wrong estimate
        data = files.write(like, files.random_codes(like, 3), num_samples=960)
        _, reader = files.read(data)
        self.assertEqual(reader.header.num_samples, 960)
        reader = bitstream.open_reader(files.Pipe(data))
        self.assertEqual(reader.header.num_samples, 1000)
        list(reader.blocks())
        self.assertEqual(reader.header.num_samples, 960)


class StreamTest(parameterized.TestCase):
    @parameterized.parameters(1, 7, 1000)
    def test_pipe_of_few_bytes_at_a_time(self, most):
        data, like, codes, scales = files.segmented_file()
        pipe = files.Pipe(most=most)
        writer = bitstream.open_writer(pipe, like)
        num_samples = 4 * 47520 + 100
        ends = np.cumsum(files.segment_frames(like, num_samples))
        for piece, scale in zip(np.split(codes, ends[:-1], axis=1), scales, strict=True):
            writer.write(piece, scale[None])
        writer.finish(num_samples)
        self.assertEqual(bytes(pipe.written), data)
        reader = bitstream.open_reader(files.Pipe(data, most))
        self.assertIsNone(reader.header.num_samples)
        np.testing.assert_array_equal(files.joined(reader.blocks()), codes)
        self.assertEqual(reader.header.num_samples, num_samples)
        with self.assertRaisesRegex(ValueError, "read only once"):
            reader.blocks()

    def test_live(self):
        """A reader gets each block as soon as it is flushed, before the file is finished."""
        like = files.header()
        codes = files.random_codes(like, 100)
        source, sink = os.pipe()
        with os.fdopen(source, "rb") as listener, os.fdopen(sink, "wb") as speaker:
            writer = bitstream.open_writer(speaker, like)
            blocks = bitstream.open_reader(listener).blocks()
            for frame in (0, 3, 6):
                writer.write(codes[:, frame : frame + 3])
                writer.flush()
                block = next(blocks)
                self.assertEqual(block.start_frame, frame)
                np.testing.assert_array_equal(block.codes, codes[:, frame : frame + 3])
            thread = threading.Thread(target=lambda: list(blocks))
            writer.write(codes[:, :80])  # a whole block needs no flush
            block = next(blocks)
            self.assertEqual(block.codes.shape, (8, 75))
            thread.start()
            writer.finish()
            thread.join()

    def test_memory_does_not_grow(self):
        """500 and 5000 seconds take the same memory; the index stays small too."""
        like = files.header(num_codebooks=2)
        codes = files.random_codes(like, 75)
        folder = self.enter_context(tempfile.TemporaryDirectory())
        path = pathlib.Path(folder, "hours.ecdc")
        peaks, sizes = [], []
        for seconds in (500, 5000):
            tracemalloc.start()
            with path.open("wb") as file:
                writer = bitstream.open_writer(file, like)
                for _ in range(seconds):
                    writer.write(codes)
                writer.finish()
            with path.open("rb") as file:
                count = sum(1 for _ in bitstream.open_reader(file).blocks())
                self.assertEqual(count, seconds)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            sizes.append(path.stat().st_size - seconds * 208)
        self.assertLess(max(peaks), 2**20)
        self.assertLess(max(sizes), 13_000)

    @parameterized.parameters(0, 1, 75, 99, 100, 101, 333, 7499, 7500, 10**6)
    def test_start_frame(self, start):
        like = files.header(num_codebooks=2)
        codes = files.random_codes(like, 7500)
        for flushes in ((), (0, 1)):
            data = files.write(like, codes, cuts=[100, 180], flushes=flushes)
            unfinished = data[:-100]
            for file in (io.BytesIO(data), files.Pipe(data, 1000), io.BytesIO(unfinished)):
                blocks, _ = files.read(file, start)
                if blocks:
                    self.assertEqual(blocks[0].start_frame, start)
                    position = start + files.joined(blocks).shape[1]
                    np.testing.assert_array_equal(files.joined(blocks), codes[:, start:position])
                else:
                    position = start
                if start <= 7400:
                    self.assertGreaterEqual(position, 7400 if file.seekable() else 7500)

    @parameterized.parameters((False,), (True,))
    def test_seeking_reads_little(self, is_flushed):
        like = files.header(num_codebooks=2)
        codes = files.random_codes(like, 75 * 3600)
        cuts = range(1000, 75 * 3600, 1000)
        flushes = range(300) if is_flushed else ()
        file = io.BytesIO(files.write(like, codes, cuts=cuts, flushes=flushes))
        reader = bitstream.open_reader(file)
        block = next(reader.blocks(200_000))
        np.testing.assert_array_equal(block.codes[:, 0], codes[:, 200_000])
        self.assertLess(reader._source.position, len(file.getvalue()))
        read = []
        inner, file.read = file.read, lambda size: read.append(size) or inner(size)
        next(reader.blocks(123_456))
        self.assertLess(sum(read), 10_000)

    @parameterized.parameters((0, 0), (149, 0), (150, 150), (460, 450), (600, 600), (750, 750))
    def test_start_of_a_segment(self, start, position):
        data, *_ = files.segmented_file()
        blocks, _ = files.read(data, start)
        self.assertEqual([block.start_frame for block in blocks], list(range(position, 750, 150)))

    def test_within_a_longer_file(self):
        like = files.header()
        data = files.write(like, files.random_codes(like, 400))
        file = io.BytesIO(b"before" + data)
        file.seek(6)
        reader = bitstream.open_reader(file)
        self.assertEqual(next(reader.blocks(330)).start_frame, 330)
        blocks = list(reader.blocks())  # again, from its start
        self.assertEqual(files.joined(blocks).shape, (8, 400))


class MisuseTest(parameterized.TestCase):
    @parameterized.parameters(
        ({"version": 2}, "version: got 2, must be 0 or 1"),
        ({"sample_rate": 0}, "sample_rate: got 0, must be a whole number, 1 to 2147483647"),
        ({"bits": 25}, "bits: got 25, must be a whole number, 1 to 24"),
        ({"channels": True}, "channels: got True, must be a whole number"),
        ({"num_codebooks": 2.0}, "num_codebooks: got 2.0, must be a whole number"),
        ({"num_samples": -1}, "num_samples: got -1"),
        ({"name": ""}, "name: got '', must be 1 to 255 bytes"),
        ({"name": "a\nb"}, r"name: got 'a\\nb', must be 1 to 255 bytes"),
        ({"segment_length": 100}, "segment_stride: got None, must be a whole number, 1 to 100"),
        ({"segment_stride": 100}, "segment_stride: got 100, must be None as"),
        ({"segment_length": 9, "segment_stride": 10}, "segment_stride: got 10, must be .* 1 to 9"),
        ({"segment_length": 2**31 - 1, "segment_stride": 1}, "codes of a segment: got 53687096"),
        ({"fingerprint": "abc"}, "fingerprint: got 'abc', must be None or 64 hexadecimal digits"),
        ({"fingerprint": "g" * 64}, "fingerprint: got 'ggg.*must be None or 64"),
    )
    def test_header(self, fields, message):
        with self.assertRaisesRegex(ValueError, f"^{message}"):
            bitstream.open_writer(io.BytesIO(), files.header(**fields))

    @parameterized.parameters(
        (np.zeros((7, 5), np.int32), None, "codes: got int32 of shape"),
        (np.zeros(8, np.int32), None, "codes: got int32 of shape"),
        (np.zeros((8, 5), np.float32), None, "codes: got float32 of shape"),
        (np.full((8, 5), 1024), None, "codes: got 1024, must be 0 to 1023"),
        (np.full((8, 5), -1), None, "codes: got -1, must be 0 to 1023"),
        (np.zeros((8, 5), np.int32), np.ones(1), "scales: got some"),
    )
    def test_codes(self, codes, scales, message):
        writer = bitstream.open_writer(io.BytesIO(), files.header())
        with self.assertRaisesRegex(ValueError, message):
            writer.write(codes, scales)

    @parameterized.parameters(
        (151, np.ones(1), "got 151 frames, a segment has 1 to 150"),
        (0, np.ones(1), "got 0 frames, a segment has 1 to 150"),
        (150, None, "scales: got object"),
        (150, np.ones(2), r"scales: got float64 of shape \(2,\)"),
        (150, np.zeros(1), "scales: got 0.0, must be finite and above 0"),
        (150, np.full(1, np.nan), "scales: got nan"),
    )
    def test_segments(self, frames, scales, message):
        writer = bitstream.open_writer(io.BytesIO(), files.header(files.SEGMENTED))
        with self.assertRaisesRegex(ValueError, message):
            writer.write(np.zeros((4, frames), np.int32), scales)

    def test_finish(self):
        writer = bitstream.open_writer(io.BytesIO(), files.header())
        writer.write(np.zeros((8, 5), np.int32))
        with self.assertRaisesRegex(ValueError, "got 5 frames, 1601 samples have 6"):
            writer.finish(1601)
        writer.finish(1600)
        writer.finish()  # does nothing
        with self.assertRaisesRegex(ValueError, "the file is finished"):
            writer.write(np.zeros((8, 5), np.int32))

    def test_start_frame(self):
        like = files.header()
        reader = bitstream.open_reader(io.BytesIO(files.write(like, files.random_codes(like, 5))))
        with self.assertRaisesRegex(ValueError, "start_frame: got -1"):
            reader.blocks(-1)


class DocumentationTest(absltest.TestCase):
    """docs/ecdc.md: the writer writes its example, and its reader reads files of the writer."""

    def test_example(self):
        (example,) = re.findall(r"```hex\n(.*?)```", DOCS, flags=re.DOTALL)
        digits = "".join(re.split(" {3,}", line)[0] for line in example.splitlines())
        like = files.header(name="tiny", num_codebooks=2, num_samples=960, fingerprint=None)
        data = files.write(like, np.array([[1, 3, 5], [2, 4, 6]]))
        self.assertEqual(bytes.fromhex(digits), data)

    def test_reader(self):
        (code,) = re.findall(r"```python\n(.*?)```", DOCS, flags=re.DOTALL)
        self.assertLess(code.count("\n"), 40)
        namespace = {}
        exec(code, namespace)
        like = files.header(num_codebooks=3, bits=11)
        codes = files.random_codes(like, 200)
        name, rate, samples, scales, frames = namespace["read_ecdc"](
            files.write(like, codes, 200 * 320 - 5, cuts=[10], flushes=[0])
        )
        self.assertEqual((name, rate, samples), (like.name, like.sample_rate, 200 * 320 - 5))
        self.assertEqual((scales, frames), ([], codes.T.tolist()))
        data, like, codes, scales = files.segmented_file()
        *_, read_scales, frames = namespace["read_ecdc"](data)
        self.assertEqual((read_scales, frames), (scales.tolist(), codes.T.tolist()))

    def test_overhead_is_as_stated(self):
        like = files.header(num_samples=24000 * 3600)
        data = files.write(like, files.random_codes(like, 75 * 3600))
        beyond = len(data) - 750 * 3600
        self.assertLess(beyond, 150 + 20 * 3600 + 12 * math.ceil(3600 / 8))


if __name__ == "__main__":
    absltest.main()
