"""Codes that a language model compresses: the coder, readers of good and of damaged files."""

import contextlib
import importlib
import io
import itertools
import json
import struct
import time
import tracemalloc

import numpy as np
import pytest
import torch
from absl.testing import absltest
from absl.testing import parameterized
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from encodec_hk import bitstream
from encodec_hk.bitstream import arithmetic_coder
from tests import bitstream_files as files
from tests import references


def official():
    references.import_encodec()
    return importlib.import_module("encodec.quantization.ac")


def distributions(count, entries=1024, gain=6.0, seed=0):
    """Return probabilities, float32 [count, entries], some of them nearly certain."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.standard_normal((count, entries), np.float32) * gain)
    return torch.softmax(logits, dim=1).numpy()


class Predictor:
    """Probabilities that depend on the codes of the frame before; each way shifts them."""

    def __init__(self, codec="encodec_24khz", ways=("one",), shifts=(0,)):
        self.codec, self.ways = codec, ways
        self._shifts = dict(zip(ways, shifts, strict=True))
        self._shift = shifts[0]
        self._tables = np.log(distributions(8))
        self.used = []

    def begin(self, num_codebooks):
        def step(last):
            index = 0 if last is None else int(last.sum()) + self._shift
            rows = (index + np.arange(num_codebooks)) % len(self._tables)
            return np.exp(self._tables[rows])

        return step

    @contextlib.contextmanager
    def using(self, way):
        self.used.append(way)
        self._shift = self._shifts[way]
        yield


def likely(num_codebooks, num_frames, seed=0):
    """Return codes that the predictor takes for likely, int32 [K, F]."""
    rng, step, last = np.random.default_rng(seed), Predictor().begin(num_codebooks), None
    frames = []
    for _ in range(num_frames):
        rows = step(last).astype(np.float64)
        last = np.array([rng.choice(1024, p=row / row.sum()) for row in rows])
        frames.append(last)
    return np.array(frames, np.int32).T


def causal_file(num_frames=200, num_codebooks=2):
    like = bitstream.meta_header("encodec_24khz", num_codebooks, 320 * num_frames, lm=True)
    codes = likely(num_codebooks, num_frames)
    return written(like, codes), like, codes


def written(like, codes, scales=None, **how):
    file = io.BytesIO()
    writer = bitstream.open_writer(file, like, predictor=Predictor(like.name))
    for index, piece in enumerate(np.split(codes, how.get("cuts", ()), axis=1)):
        writer.write(piece, None if scales is None else scales[index : index + 1])
    writer.finish()
    return file.getvalue()


def segmented_file(num_samples=48000 * 2):
    like = bitstream.meta_header("encodec_48khz", 2, num_samples, lm=True)
    counts = files.segment_frames(like, num_samples)
    codes = np.concatenate([likely(2, count, seed) for seed, count in enumerate(counts)], axis=1)
    scales = np.linspace(0.1, 0.9, len(counts), dtype=np.float32)
    return written(like, codes, scales, cuts=np.cumsum(counts)[:-1]), like, codes, scales


def read(data, predictor, **how):
    reader = bitstream.open_reader(
        data if hasattr(data, "read") else io.BytesIO(data), predictor=predictor
    )
    return list(reader.blocks(**how)), reader


class CoderTest(parameterized.TestCase):
    @parameterized.parameters((1024, 6.0), (1024, 0.1), (2, 30.0), (300, 40.0))
    def test_same_as_meta(self, entries, gain):
        theirs = io.BytesIO()
        coder, encoder = official().ArithmeticCoder(theirs), arithmetic_coder.ArithmeticEncoder()
        pdfs = distributions(400, entries, gain)
        rng, data, symbols = np.random.default_rng(0), b"", []
        all_ends = arithmetic_coder.cumulative(pdfs)
        for pdf, ends in zip(pdfs, all_ends, strict=True):
            cdf = official().build_stable_quantized_cdf(torch.from_numpy(pdf), 24, check=False)
            np.testing.assert_array_equal(ends, cdf.numpy())
            pdf = pdf.astype(np.float64)
            symbols.append(int(rng.choice(entries, p=pdf / pdf.sum())))
            if rng.random() < 0.1:
                # Among them very unlikely ones; the last is for the next test.
                symbols[-1] = int(rng.integers(entries - 1))
            coder.push(symbols[-1], cdf)
            encoder.push(int(ends[symbols[-1] - 1]) if symbols[-1] else 0, int(ends[symbols[-1]]))
            data += encoder.take()
        coder.flush()
        data += encoder.finish()
        self.assertEqual(data, theirs.getvalue())
        decoder = arithmetic_coder.ArithmeticDecoder(data + b"more")
        self.assertEqual([decoder.pull(ends) for ends in all_ends], symbols)
        self.assertEqual(decoder.bytes_read, len(data))
        self.assertTrue(decoder.is_at_end)

    def test_shares_that_exceed_the_total(self):
        """Rounding may give the last symbol a share beyond the range: Meta's program stops too."""
        ends = arithmetic_coder.cumulative(np.array([[1.0, 0.0]], np.float32))[0]
        ends[-1] = 2**24 + 1
        coder = official().ArithmeticCoder(io.BytesIO())
        with self.assertRaises(AssertionError):
            coder.push(1, torch.from_numpy(ends))
        with self.assertRaisesRegex(ValueError, "a code has no share of the probabilities"):
            arithmetic_coder.ArithmeticEncoder().push(int(ends[0]), int(ends[1]))

    def test_nothing(self):
        self.assertEqual(arithmetic_coder.ArithmeticEncoder().finish(), b"")
        decoder = arithmetic_coder.ArithmeticDecoder(b"")
        self.assertTrue(decoder.is_at_end)
        with self.assertRaises(EOFError):
            decoder.pull(arithmetic_coder.cumulative(distributions(1))[0])


class ReaderTest(parameterized.TestCase):
    def test_without_segments(self):
        data, like, codes = causal_file()
        self.assertLess(len(data), 0.9 * like.payload_size(200))
        for file in (io.BytesIO(data), files.Pipe(data, 100)):
            blocks, reader = read(file, Predictor())
            self.assertEqual([block.codes.shape[1] for block in blocks], [75, 75, 50])
            self.assertEqual([block.start_frame for block in blocks], [0, 75, 150])
            np.testing.assert_array_equal(files.joined(blocks), codes)
            self.assertEqual((reader.header, reader.warnings), (like, []))
        for start in (1, 80, 199):
            blocks, _ = read(data, Predictor(), start_frame=start)
            self.assertEqual(blocks[0].start_frame, start)
            np.testing.assert_array_equal(files.joined(blocks), codes[:, start:])
        self.assertEqual(read(data, Predictor(), start_frame=200)[0], [])

    def test_written_in_pieces(self):
        data, like, codes = causal_file(20)
        self.assertEqual(written(like, codes, cuts=(1, 2, 13)), data)

    def test_with_segments(self):
        data, _, codes, scales = segmented_file()
        for file in (io.BytesIO(data), files.Pipe(data, 100)):
            blocks, _ = read(file, Predictor("encodec_48khz"))
            np.testing.assert_array_equal(files.joined(blocks), codes)
            self.assertEqual([block.scale for block in blocks], scales.tolist())
            self.assertEqual([block.start_frame for block in blocks], [0, 150, 300])
        blocks, _ = read(data, Predictor("encodec_48khz"), start_frame=160)
        self.assertEqual([block.start_frame for block in blocks], [150, 300])

    def test_ways(self):
        """The way that fits is found, and the next segment begins with it."""
        data, _, codes, _ = segmented_file()
        predictor = Predictor("encodec_48khz", ("one", "two", "three"), (3, 5, 0))
        blocks, _ = read(data, predictor)
        np.testing.assert_array_equal(files.joined(blocks), codes)
        self.assertEqual(predictor.used, ["one", "two", "three", "three", "three"])

    @parameterized.parameters(False, True)
    def test_no_way_fits(self, has_segments):
        data, like, *_ = segmented_file() if has_segments else causal_file()
        predictor = Predictor(like.name, ("1 thread", "2 threads"), (3, 5))
        with self.assertRaisesRegex(
            bitstream.EcdcError,
            r"(cut off after|damaged .*before) [\d.]+ s, or written where the language model gives "
            r"other probabilities: on another processor, .* \(tried: 1 thread, 2 threads\)$",
        ):
            read(data, predictor)

    def test_recover_what_is_before_a_cut(self):
        data, _, codes = causal_file()
        with self.assertRaisesRegex(
            bitstream.EcdcError, r"cut off after [12]\.\d+ s, or written where"
        ):
            read(data[:-20], Predictor())
        blocks, reader = read(data[:-20], Predictor(), recover=True)
        found = files.joined(blocks)
        self.assertGreater(found.shape[1], 75)
        np.testing.assert_array_equal(found, codes[:, : found.shape[1]])
        self.assertRegex(reader.warnings[0], "cut off after")
        data, _, codes, _ = segmented_file()
        blocks, _ = read(data[:-1], Predictor("encodec_48khz"), recover=True)
        np.testing.assert_array_equal(files.joined(blocks), codes[:, :300])

    def test_bytes_after_the_end(self):
        data, _, codes = causal_file(20)
        blocks, reader = read(data + bytes(7), Predictor())
        np.testing.assert_array_equal(files.joined(blocks), codes)
        self.assertEqual(reader.warnings, ["7 bytes after the end of the codes"])

    def test_scales(self):
        data, *_ = segmented_file()
        start = 9 + struct.unpack_from("!I", data, 5)[0]
        for scale, message in ((b"\0\0\0\0", "its scale is 0$"), (b"", "cut off after 0.00 s")):
            broken = data[:start] + scale + (data[start + 4 :] if scale else b"")
            with self.assertRaisesRegex(bitstream.EcdcError, message):
                read(broken, Predictor("encodec_48khz"))
            self.assertEqual(read(broken, Predictor("encodec_48khz"), recover=True)[0], [])

    def test_refused(self):
        data, like, _ = causal_file(3)
        message = r"compressed with Meta's language model \(lm: true\); --language=FILE names the"
        with self.assertRaisesRegex(bitstream.EcdcError, message):
            read(data, None)
        with self.assertRaisesRegex(ValueError, message):
            bitstream.open_writer(io.BytesIO(), like)
        self.assertEqual(list(bitstream.open_reader(io.BytesIO(data)).blocks(decode=False)), [])
        message = "made with encodec_24khz, the language model here is of encodec_48khz; --language"
        with self.assertRaisesRegex(bitstream.EcdcError, message):
            read(data, Predictor("encodec_48khz"))
        with self.assertRaisesRegex(ValueError, "codes of a segment: got .*, must be at most 6710"):
            bitstream.meta_header("encodec_24khz", 8, 2**40, lm=True)


WHOLE = [causal_file(60)[0], segmented_file(48000)[0]]


class DamageTest(absltest.TestCase):
    """Whatever the payload holds, reading it ends, in time and memory that fit its size."""

    def read(self, data):
        tracemalloc.start()
        start = time.process_time()
        for recover, pipe in itertools.product((False, True), repeat=2):
            file = files.Pipe(data, 1000) if pipe else io.BytesIO(data)
            try:
                blocks, reader = read(file, Predictor(data[16:29].decode()), recover=recover)
            except bitstream.EcdcError as error:
                self.assertLess(len(str(error)), 400)
                self.assertNotIn("\n", str(error))
                self.assertFalse(recover)
            else:
                total = reader.header.framing.num_frames(reader.header.num_samples)
                count = sum(block.codes.shape[1] for block in blocks)
                self.assertTrue(count == total or (recover and reader.warnings))
        seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.assertLess(seconds, 2)
        self.assertLess(peak, 20e6)

    @pytest.mark.slow
    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from(WHOLE), st.floats(0, 1), st.binary(max_size=20), st.booleans())
    def test_changed(self, data, where, change, is_cut):
        start = 9 + struct.unpack_from("!I", data, 5)[0]
        place = start + int(where * (len(data) - start))
        after = b"" if is_cut else data[place + len(change) :]
        self.read(data[:place] + change + after)

    @settings(max_examples=20, deadline=None)
    @given(st.sampled_from(list(bitstream.META_MODELS)), st.binary(max_size=300))
    def test_any_payload_of_a_long_signal(self, name, payload):
        fields = {"m": name, "al": 320 * 1_000_000, "nc": 16, "lm": True}
        text = json.dumps(fields).encode()
        self.read(b"ECDC" + struct.pack("!BI", 0, len(text)) + text + payload)


if __name__ == "__main__":
    absltest.main()
