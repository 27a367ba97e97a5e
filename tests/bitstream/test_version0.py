"""Files of version 0 equal those of Meta's `encodec`, and each reads the other's."""

import io
import json
import struct
from unittest import mock

import numpy as np
import torch
from absl.testing import absltest
from absl.testing import parameterized
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from encodec_hk import bitstream
from encodec_hk.bitstream import packing
from tests import bitstream_files as files
from tests import meta_files
from tests import references

# Codebooks of all bandwidths of both models; lengths with full, short and tiny last segments.
FILES = [
    (name, codebooks, num_samples)
    for name, counts, lengths in (
        ("encodec_24khz", (2, 4, 8, 16, 32), (1, 320, 321, 24000, 100_001)),
        ("encodec_48khz", (2, 4, 8, 16), (1, 47520, 48000, 95040, 150_000)),
    )
    for codebooks in counts
    for num_samples in lengths
]


class MetaTest(parameterized.TestCase):
    @parameterized.parameters(FILES)
    def test_same_bytes(self, name, codebooks, num_samples):
        data, like, codes, scales = files.meta_file(name, codebooks, num_samples)
        theirs = io.BytesIO()
        network = meta_files.Network(like, codes, scales)
        meta_files.compress().compress_to_file(
            network, torch.zeros(1, num_samples), theirs, use_lm=False
        )
        self.assertEqual(data, theirs.getvalue())

    @parameterized.parameters(FILES)
    def test_they_read_ours(self, name, codebooks, num_samples):
        data, like, codes, scales = files.meta_file(name, codebooks, num_samples)
        network = meta_files.Network(like)
        with mock.patch.dict(meta_files.compress().MODELS, {name: lambda: network}):
            meta_files.compress().decompress(data)
        np.testing.assert_array_equal(np.concatenate(network.frames, axis=1), codes)
        self.assertEqual(network.scales, [None] if scales is None else scales.tolist())

    @parameterized.parameters(FILES)
    def test_we_read_ours(self, name, codebooks, num_samples):
        data, like, codes, scales = files.meta_file(name, codebooks, num_samples)
        for file in (io.BytesIO(data), files.Pipe(data, 100)):
            blocks, reader = files.read(file)
            self.assertEqual(reader.header, like)
            self.assertEqual((reader.header.num_samples, reader.warnings), (num_samples, []))
            np.testing.assert_array_equal(files.joined(blocks), codes)
            if scales is not None:
                self.assertEqual([block.scale for block in blocks], scales.tolist())
                counts = files.segment_frames(like, num_samples)
                self.assertEqual([block.codes.shape[1] for block in blocks], counts)

    def test_length_that_0_1_1_takes_for_one_frame_more(self):
        data, like, codes, _ = files.meta_file("encodec_24khz", 2, 53760)
        models = mock.patch.dict(
            meta_files.compress().MODELS, {like.name: lambda: meta_files.Network(like)}
        )
        with models, self.assertRaises(EOFError):
            meta_files.compress().decompress(data)
        blocks, _ = files.read(data)
        np.testing.assert_array_equal(files.joined(blocks), codes)

    @settings(max_examples=50)
    @given(st.integers(1, 24), st.integers(0, 50), st.integers(0, 1000))
    def test_packing(self, bits, count, seed):
        codes = np.random.default_rng(seed).integers(0, 2**bits, count)
        theirs = io.BytesIO()
        packer = meta_files.binary().BitPacker(bits, theirs)
        for code in codes.tolist():
            packer.push(code)
        packer.flush()
        self.assertEqual(packing.pack(codes[None], bits).tobytes(), theirs.getvalue())
        unpacker = meta_files.binary().BitUnpacker(bits, io.BytesIO(theirs.getvalue()))
        self.assertEqual([unpacker.pull() for _ in range(count)], codes.tolist())

    def test_header(self):
        theirs = io.BytesIO()
        fields = {"m": "encodec_24khz", "al": 240000, "nc": 8, "lm": False}
        meta_files.binary().write_ecdc_header(theirs, fields)
        ours = io.BytesIO()
        bitstream.open_writer(ours, bitstream.meta_header("encodec_24khz", 8, 240000))
        self.assertEqual(ours.getvalue(), theirs.getvalue())
        self.assertEqual(meta_files.binary().read_ecdc_header(io.BytesIO(ours.getvalue())), fields)

    @parameterized.parameters("encodec_24khz", "encodec_48khz")
    def test_models(self, name):
        build = references.import_encodec().EncodecModel
        network = getattr(build, name.replace("encodec", "encodec_model"))(pretrained=False)
        model = bitstream.META_MODELS[name]
        for field, value in {
            "sample_rate": network.sample_rate,
            "channels": network.channels,
            "hop_length": network.encoder.hop_length,
            "num_codebooks": network.quantizer.n_q,
            "bits": network.bits_per_codebook,
            "segment_length": network.segment_length,
            "segment_stride": network.segment_stride,
            "normalize": network.normalize,
        }.items():
            self.assertEqual(getattr(model, field), value, field)


class WriterTest(parameterized.TestCase):
    @given(st.integers(1, 32), st.integers(0, 300), st.lists(st.integers(0, 300)))
    def test_pieces_make_no_difference(self, codebooks, num_frames, cuts):
        like = bitstream.meta_header("encodec_24khz", codebooks, 320 * num_frames + 1)
        codes = files.random_codes(like, num_frames + 1)
        cuts = sorted(cut for cut in cuts if cut <= num_frames)
        pieces = files.write(like, codes, cuts=cuts, flushes=(0, 1))
        self.assertEqual(pieces, files.write(like, codes))

    def test_frames_that_do_not_fit_the_length(self):
        like = bitstream.meta_header("encodec_24khz", 8, 3200)
        writer = bitstream.open_writer(io.BytesIO(), like)
        writer.write(np.zeros((8, 9), np.int32))
        with self.assertRaisesRegex(ValueError, "got 9 frames, 3200 samples have 10"):
            writer.finish()
        with self.assertRaisesRegex(ValueError, "got 3201, must be 3200 as in the header"):
            writer.finish(3201)
        with self.assertRaisesRegex(ValueError, "got 11 frames, must be at most 10"):
            writer.write(np.zeros((8, 2), np.int32))
        writer.write(np.zeros((8, 1), np.int32))
        writer.finish()

    def test_segments_that_do_not_fit_the_length(self):
        like = bitstream.meta_header("encodec_48khz", 2, 95040)
        writer = bitstream.open_writer(io.BytesIO(), like)
        with self.assertRaisesRegex(ValueError, "got 149 frames, segment 0 must have 150"):
            writer.write(np.zeros((2, 149), np.int32), np.ones(1))
        for frames in (150, 149):
            writer.write(np.zeros((2, frames), np.int32), np.ones(1))
        with self.assertRaisesRegex(ValueError, "got more segments than the 2 of the header"):
            writer.write(np.zeros((2, 1), np.int32), np.ones(1))
        writer.finish(95040)

    @parameterized.parameters(
        ("encodec_32khz", 2, 100, "name: got 'encodec_32khz', version 0 is for encodec_24khz and"),
        ("encodec_24khz", 33, 100, "num_codebooks: got 33, must be a whole number, 1 to 32"),
        ("encodec_48khz", 17, 100, "num_codebooks: got 17, must be a whole number, 1 to 16"),
        ("encodec_48khz", 2, 0, "num_samples: got 0, must be a whole number, 1 to"),
        ("encodec_48khz", 2, None, "num_samples: got None, must be a number"),
    )
    def test_headers_that_version_0_does_not_have(self, name, codebooks, num_samples, message):
        with self.assertRaisesRegex(ValueError, message):
            bitstream.meta_header(name, codebooks, num_samples)

    def test_fields_that_version_0_does_not_store(self):
        fields = {**files.PLAIN, "version": 0, "name": "encodec_24khz", "num_samples": 9}
        for wrong, message in (
            ({}, "fingerprint: got .*, must be None"),
            ({"fingerprint": None, "bits": 11}, "bits: got 11, must be 10 of encodec_24khz"),
            ({"fingerprint": None, "name": "x"}, "name: got 'x', must be encodec_24khz or"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                bitstream.open_writer(io.BytesIO(), bitstream.Header(**{**fields, **wrong}))


def with_json(text, rest=bytes(1000)):
    text = text if isinstance(text, bytes) else text.encode()
    return b"ECDC" + struct.pack("!BI", 0, len(text)) + text + rest


GOOD = {"m": "encodec_24khz", "al": 320, "nc": 2, "lm": False}


class HeaderTest(parameterized.TestCase):
    @parameterized.parameters(
        ("", "header of 0 bytes, must be 1 to 65536"),
        (" " * 70000, "header of 70000 bytes, must be 1 to 65536"),
        ("{", "header: not JSON"),
        (b"\xff\xfe", "header: not JSON"),
        ("[" * 65536, "header: not JSON"),
        ('{"al":' * 10000, "header: not JSON"),
        ("1" * 60000, "header: not JSON"),
        ("[]", r"header: got \[\], must be a JSON object"),
        ("null", "header: got None, must be a JSON object"),
        ('"' + "x" * 10000 + '"', r"header: got 'x{56}\.\.\., must be a JSON object"),
        ("{}", "header: missing m, al, nc, lm; must have m, al, nc, lm"),
        ('{"al": NaN}', "header: got NaN, must be JSON"),
        ('{"al": 1, "al": 2}', "header: 'al' occurs twice"),
        ("{" + ",".join(f'"{n}":1' for n in range(6000)) + "}", "header: missing m"),
        ({"m": "encodec_32khz"}, "header: name: got 'encodec_32khz', version 0 is for"),
        ({"m": "a\n" * 9000}, r"header: name: got '(a\\n)+a?\\?\.\.\., version 0 is for"),
        ({"m": None}, "header: m: got None, must be a model's name"),
        ({"al": 320.0}, "header: al: got 320.0, must be a whole number of samples"),
        ({"al": "320"}, "header: al: got '320', must be a whole number of samples"),
        ({"al": True}, "header: al: got True, must be a whole number of samples"),
        ({"al": 0}, "header: num_samples: got 0, must be a whole number, 1 to 281474976710655"),
        ({"al": -1}, "header: num_samples: got -1, must be"),
        ({"al": 10**100}, r"header: num_samples: got 10+\.\.\., must be"),
        ({"al": 1e999}, "header: got Infinity, must be JSON"),
        ({"nc": 0}, "header: num_codebooks: got 0, must be a whole number, 1 to 32"),
        ({"nc": [2]}, r"header: nc: got \[2\], must be a whole number of codebooks"),
        ({"nc": {}}, r"header: nc: got \{\}, must be"),
        ({"lm": 0}, "header: lm: got 0, must be true or false"),
        (
            {"lm": True, "acv": 1, "tau": 1e-4},
            "header: got acv, tau: written by a fork of encodec whose arithmetic coder is another",
        ),
    )
    def test_errors(self, change, message):
        text = json.dumps(GOOD | change) if isinstance(change, dict) else change
        with self.assertRaisesRegex(bitstream.EcdcError, f"^{message}") as context:
            bitstream.open_reader(io.BytesIO(with_json(text)))
        self.assertLen(str(context.exception).splitlines(), 1)
        self.assertLess(len(str(context.exception)), 300)

    def test_other_fields_and_spaces(self):
        text = json.dumps(GOOD | {"more": [1, {"a": None}]}, indent=3)
        _, reader = files.read(with_json(text, bytes(3)))
        self.assertEqual(reader.header, bitstream.meta_header("encodec_24khz", 2, 320))

    @parameterized.parameters(
        (b"", r"the file is empty \(0 bytes\)"),
        (b"RIFF\0\0\0\0", r"no .ecdc file: starts with b'RIFF', must be b'ECDC'"),
        (b"E", "cut off in its header, after 1 bytes"),
        (b"ECDC\0\0\0", "cut off in its header, after 7 bytes"),
        (b"ECDC\2\0\0\0\1", "version 2, this program reads 0 and 1"),
        (b"ECDC\0\xff\xff\xff\xff", "header of 4294967295 bytes, must be 1 to 65536"),
        (b"ECDC\1\xff\xff\xff\xff", "header of 4294967295 bytes, must be 73 to 359"),
        (b"ECDC\0\0\0\0\x09{", "cut off in its header, after 1 of 9 bytes"),
    )
    def test_starts(self, data, message):
        with self.assertRaisesRegex(bitstream.EcdcError, f"^{message}$"):
            bitstream.open_reader(io.BytesIO(data))


class DamageTest(parameterized.TestCase):
    @parameterized.parameters(
        # A frame of 8 codebooks has 10 bytes.
        ("encodec_24khz", 320 * 200, 995, "cut off after 1.32 s of 2.67 s", 99),
        ("encodec_24khz", 320 * 200, 0, "cut off after 0.00 s of 2.67 s", 0),
        ("encodec_24khz", 320 * 200, 1999, "cut off after 2.65 s of 2.67 s", 199),
        ("encodec_48khz", 95040, 2, "cut off after 0.00 s of 1.98 s", 0),
        ("encodec_48khz", 95040, 4 + 105, "cut off after 0.07 s of 1.98 s", 10),
        ("encodec_48khz", 95040, 4 + 1500, "cut off after 0.99 s of 1.98 s", 150),
        ("encodec_48khz", 95040, 2 * 4 + 1500 + 1489, "cut off after 1.98 s of 1.98 s", 298),
    )
    def test_cut_off(self, name, num_samples, keep, message, frames):
        data, _, codes, _ = files.meta_file(name, 8, num_samples)
        data = data[: data.index(b"}") + 1 + keep]
        for file in (data, files.Pipe(data, 50)):
            with self.assertRaisesRegex(
                bitstream.EcdcError, f"^{message}; --recover decodes up to there$"
            ):
                files.read(file)
        for file in (data, files.Pipe(data, 50)):
            blocks, reader = files.read(file, recover=True)
            self.assertEqual(reader.warnings, [message])
            read = files.joined(blocks) if blocks else codes[:, :0]
            np.testing.assert_array_equal(read, codes[:, :frames])

    def test_bytes_after_the_end(self):
        data, _, codes, _ = files.meta_file("encodec_24khz", 2, 3200)
        blocks, reader = files.read(data + b"more")
        self.assertEqual(reader.warnings, ["4 bytes after the end of the codes"])
        np.testing.assert_array_equal(files.joined(blocks), codes)

    @parameterized.parameters(0.0, -1.0, np.nan, np.inf)
    def test_scale(self, scale):
        data, _, codes, _ = files.meta_file("encodec_48khz", 8, 95040)
        offset = len(data) - 4 - 1490
        data = data[:offset] + struct.pack("!f", scale) + data[offset + 4 :]
        with self.assertRaisesRegex(
            bitstream.EcdcError, f"^damaged segment at 0.99 s: its scale is {scale:g}; --recover"
        ):
            files.read(data)
        blocks, reader = files.read(data, recover=True)
        self.assertEqual([block.is_damaged for block in blocks], [False, True])
        self.assertEqual([block.codes.shape[1] for block in blocks], [150, 149])
        self.assertEqual(reader.warnings, [f"damaged segment at 0.99 s: its scale is {scale:g}"])

    @parameterized.parameters(0, 1, 7, 8, 9, 80, 81, 299, 300, 10**9)
    def test_start_frame(self, start):
        data, _, codes, _ = files.meta_file("encodec_24khz", 3, 320 * 300)
        for file in (data, files.Pipe(data, 50)):
            blocks, _ = files.read(file, start)
            if start < 300:
                self.assertEqual(blocks[0].start_frame, start)
                np.testing.assert_array_equal(files.joined(blocks), codes[:, start:])
            else:
                self.assertEmpty(blocks)

    @parameterized.parameters((0, 0), (150, 1), (299, 1), (450, 3), (600, 4), (10**9, 4))
    def test_start_of_a_segment(self, start, segment):
        data, like, codes, scales = files.meta_file("encodec_48khz", 2, 3 * 47520 + 9)
        frame = sum(files.segment_frames(like, 3 * 47520 + 9)[:segment])
        for file in (data, files.Pipe(data, 50)):
            blocks, _ = files.read(file, start)
            self.assertEqual([block.scale for block in blocks], scales[segment:].tolist())
            if blocks:
                self.assertEqual(blocks[0].start_frame, 150 * segment)
                np.testing.assert_array_equal(files.joined(blocks), codes[:, frame:])


if __name__ == "__main__":
    absltest.main()
