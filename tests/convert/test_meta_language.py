"""Meta's language models: conversion, and files with the bytes of Meta's program."""

import dataclasses
import io
import pathlib
import tempfile
import time
from unittest import mock

import numpy as np
import pytest
import safetensors.numpy
import torch
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import bitstream
from encodec_hk.commands import convert
from encodec_hk.convert import meta_language
from tests import bitstream_files as files
from tests import meta_files

MODELS = ("encodec_24khz", "encodec_48khz")
# Segments of 48 kHz: full, short, and of two frames.
FILES = [
    (name, codebooks, num_samples)
    for name, counts, lengths in (
        ("encodec_24khz", (2, 4, 8, 16, 32), (1, 53760, 100_000)),
        ("encodec_48khz", (2, 4, 8, 16), (321, 48000, 110_000)),
    )
    for codebooks in counts
    for num_samples in lengths
]
QUICK = [FILES.index(case) for case in (("encodec_24khz", 2, 53760), ("encodec_48khz", 4, 48000))]


def predictor(name):
    tensors = {key: value.numpy() for key, value in meta_files.language(name).state_dict().items()}
    return meta_language.MetaLanguage(name, tensors)


def contents(name, num_codebooks, num_samples):
    """Return a header with `lm`, codes and scales."""
    like = bitstream.meta_header(name, num_codebooks, num_samples, lm=True)
    num_frames = like.framing.num_frames(num_samples)
    codes = meta_files.likely_codes(name, num_codebooks, num_frames)
    scales = None
    if like.normalize:
        count = like.framing.num_segments(num_samples)
        scales = np.random.default_rng(1).uniform(0.01, 1, count).astype(np.float32)
    return like, codes, scales


def write(like, codes, scales, model, cuts=()):
    """Return the bytes of a file."""
    file = io.BytesIO()
    writer = bitstream.open_writer(file, like, predictor=model)
    if scales is not None:
        cuts = np.cumsum(files.segment_frames(like, like.num_samples))[:-1]
    for index, piece in enumerate(np.split(codes, cuts, axis=1)):
        writer.write(piece, None if scales is None else scales[index : index + 1])
    writer.finish()
    return file.getvalue()


def read(data, model, **how):
    reader = bitstream.open_reader(io.BytesIO(data), predictor=model)
    return list(reader.blocks(**how)), reader


class SameAsMetaTest(parameterized.TestCase):
    @parameterized.parameters(FILES)
    @pytest.mark.few(*QUICK)
    def test_bytes_and_readers(self, name, codebooks, num_samples):
        like, codes, scales = contents(name, codebooks, num_samples)
        model = predictor(name)
        data = write(like, codes, scales, model, cuts=(codes.shape[1] // 2,))
        self.assertEqual(data, meta_files.write_with_language(like, codes, scales))
        blocks, reader = read(data, model)
        np.testing.assert_array_equal(files.joined(blocks), codes)
        self.assertEqual((reader.header, reader.warnings), (like, []))
        if scales is not None:
            self.assertEqual([block.scale for block in blocks], scales.tolist())
        if num_samples != 53760:  # Meta's reader takes it for one frame more
            found, found_scales = meta_files.read_with_language(data, like)
            np.testing.assert_array_equal(found, codes)
            self.assertEqual(found_scales, [None] if scales is None else scales.tolist())

    def test_keys_and_values_that_cannot_be_kept(self):
        """Whether they can is a matter of the processor; so these products stand for its own."""
        like, codes, _ = contents("encodec_24khz", 2, 320 * 12)
        product = meta_language._product

        def equal(torch, inputs, layer):
            return torch.cat([product(torch, row[None], layer) for row in inputs], dim=1)

        def unequal(torch, inputs, layer):
            return equal(torch, inputs, layer) + (len(inputs) == 4) * 1e-6

        threads = torch.get_num_threads()
        for products, expected in ((equal, set()), (unequal, {threads})):
            with mock.patch.object(meta_language, "_product", products):
                model = predictor("encodec_24khz")
                step, last = model.begin(2), None
                for frame in codes.T:
                    step(last)
                    last = frame
            self.assertEqual(model.unequal, expected)
        model = predictor("encodec_24khz")
        data = write(like, codes, None, model)
        model.unequal.add(threads)
        self.assertEqual(write(like, codes, None, model), data)

    @pytest.mark.slow
    def test_speed(self):
        like, codes, _ = contents("encodec_24khz", 8, 24000 * 5)
        model = predictor("encodec_24khz")
        ratios = []
        for _ in range(3):
            start = time.process_time()
            data = write(like, codes, None, model)
            middle = time.process_time()
            self.assertEqual(data, meta_files.write_with_language(like, codes, None))
            ratios.append((time.process_time() - middle) / (middle - start))
        self.assertGreater(np.median(ratios), 1.3)


class OtherThreadsTest(absltest.TestCase):
    def test_the_next_way_is_tried(self):
        """A file that was written with another number of threads is read with that number."""
        like, codes, _ = contents("encodec_24khz", 2, 320 * 6)
        model = predictor("encodec_24khz")
        data = write(like, codes, None, model)
        other = predictor("encodec_24khz")
        other.ways = ("other", "1 thread")
        other._threads = {"other": 1, "1 thread": 1}
        begin, tried = other.begin, []

        def begin_one(num_codebooks):
            step = begin(num_codebooks)
            tried.append(len(tried))
            if len(tried) == 1:
                return lambda last: np.roll(step(last), 1, axis=1)
            return step

        with mock.patch.object(other, "begin", begin_one):
            blocks, _ = read(data, other)
        np.testing.assert_array_equal(files.joined(blocks), codes)
        self.assertEqual(tried, [0, 1])

    def test_written_with_one_thread_and_read_with_two(self):
        like, codes, _ = contents("encodec_24khz", 2, 320 * 12)
        model = predictor("encodec_24khz")
        with model.using("1 thread"):
            data = write(like, codes, None, model)
        before = torch.get_num_threads()
        self.addCleanup(torch.set_num_threads, before)
        torch.set_num_threads(2)
        blocks, _ = read(data, predictor("encodec_24khz"))
        np.testing.assert_array_equal(files.joined(blocks), codes)
        self.assertEqual(torch.get_num_threads(), 2)

    def test_threads_are_set_and_restored(self):
        model = predictor("encodec_24khz")
        before = torch.get_num_threads()
        for way in model.ways:
            with model.using(way):
                self.assertEqual(torch.get_num_threads(), int(way.split()[0]))
            self.assertEqual(torch.get_num_threads(), before)


class ConvertTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.output = self.folder / "new" / "language.safetensors"

    def convert(self, source, **flags):
        return convert.run(None, source=str(source), output=str(self.output), **flags)

    @parameterized.parameters(*MODELS)
    def test_converted(self, name):
        source = meta_files.save_language(self.folder, name)
        self.assertEqual(self.convert(source), 0)
        self.assertEqual(meta_language.load(self.output).codec, name)
        state = meta_files.language(name).state_dict()
        found = safetensors.numpy.load_file(self.output)
        self.assertEqual(found.keys(), state.keys())
        for key, value in state.items():
            np.testing.assert_array_equal(found[key], value.numpy())
        like, codes, scales = contents(name, 2, 960)
        expected = meta_files.write_with_language(like, codes, scales)
        self.assertEqual(write(like, codes, scales, meta_language.load(self.output)), expected)

    def test_licence_of_the_manifest(self):
        source = meta_files.save_language(self.folder, "encodec_24khz")
        known = mock.Mock(licence="as known")
        with mock.patch.object(meta_language.published, "find", return_value=known):
            self.convert(source)
        metadata = meta_language.checkpoint.read_metadata(self.output)
        self.assertEqual(metadata["licence"], "as known")
        self.assertEqual(metadata["source"], source.name)
        self.assertStartsWith(metadata["source_sha256"], source.stem.split("-")[1])
        self.assertEqual(metadata["codec"], "encodec_24khz")

    def test_refused(self):
        source = meta_files.save_language(self.folder, "encodec_24khz")
        other = source.with_name("encodec_lm_24khz-1608e3c0.th")
        other.write_bytes(source.read_bytes())
        with self.assertRaisesRegex(ValueError, "its SHA-256 begins with .*, its name says 1608"):
            self.convert(other)
        other = source.with_name("encodec_lm_48khz.th")
        other.write_bytes(source.read_bytes())
        with self.assertRaisesRegex(ValueError, "named for encodec_48khz, its tensors are for"):
            self.convert(other)
        other = source.with_name("encodec_lm_24khz.th")
        torch.save({"emb.0.weight": torch.zeros(3)}, other)
        with self.assertRaisesRegex(ValueError, "not those of the language model of encodec_24khz"):
            self.convert(other)
        with self.assertRaisesRegex(ValueError, "a language model; --config, --join, --to"):
            self.convert(source, verify=True)

    def test_load_refuses(self):
        codec = pathlib.Path(__file__).parents[2] / "checkpoints/encodec_tiny.safetensors"
        with self.assertRaisesRegex(ValueError, "no language model of Meta's .*convert. makes one"):
            meta_language.load(codec)
        self.convert(meta_files.save_language(self.folder, "encodec_24khz"))
        tensors = safetensors.numpy.load_file(self.output)
        metadata = meta_language.checkpoint.read_metadata(self.output)
        for changed, message in (
            ({"format_version": "2"}, "format_version '2', this program reads 1"),
            ({"codec": "encodec_48khz"}, "not those of a language model of its codec"),
        ):
            path = self.folder / "changed.safetensors"
            path.write_bytes(safetensors.numpy.save(tensors, metadata=metadata | changed))
            with self.assertRaisesRegex(ValueError, message):
                meta_language.load(path)
        tensors["emb.0.weight"][0, 0] = np.nan
        path.write_bytes(safetensors.numpy.save(tensors, metadata=metadata))
        with self.assertRaisesRegex(ValueError, "emb.0.weight: must be finite"):
            meta_language.load(path)


class HeaderTest(absltest.TestCase):
    def test_version_1(self):
        like = files.header(version=1)
        with self.assertRaisesRegex(ValueError, "lm: got True, must be False: version 0 alone"):
            bitstream.open_writer(io.BytesIO(), dataclasses.replace(like, lm=True))


if __name__ == "__main__":
    absltest.main()
