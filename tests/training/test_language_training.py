"""Training of language models: the integers are those that were trained, and runs resume."""

import dataclasses
import io
import pathlib
import shutil
import tempfile

import jax
import numpy as np
import pytest
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from configs import encodec_tiny
from encodec_hk import bitstream
from encodec_hk import checkpoint
from encodec_hk.commands import train_language
from encodec_hk.language import code_model
from encodec_hk.language import language_coder
from encodec_hk.language import language_file
from encodec_hk.training import language_codes
from encodec_hk.training import language_floats
from encodec_hk.training import language_loop
from encodec_hk.transcode import ecdc
from tests import random_networks
from tests.language import random_language

CLIPS = pathlib.Path(__file__).parents[2] / "assets" / "clips"
SIZES = random_language.SIZES


def small_variant(**fields):
    config = encodec_tiny.get_config()
    language = config.language
    language.update(width=16, head_width=8, dilations=(1, 2), num_codebooks=3)
    settings = {"num_steps": 6, "rounded_steps": 2, "batch_size": 3, "crop_frames": 20}
    settings |= {"log_every": 2, "checkpoint_every": 3, "validate_every": 3, "warmup_steps": 2}
    language.training.update(settings | fields)
    return config


def rows(count=5, frames=30):
    codes = random_language.integers("rows", (count, 3, frames), 0, 1023).astype(np.int32)
    return list(codes)


class LanguageTrainingTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.lines = []

    def begin(self, folder="", **fields):
        place = self.folder / folder
        place.mkdir(exist_ok=True)
        return language_loop.LanguageRun(
            small_variant(**fields), place, rows(), rows(2), self.lines.append
        )

    def test_rounded_floats_are_the_integers(self):
        init, bits = language_floats.build(SIZES)
        params = init(jax.random.PRNGKey(1))
        integers = language_floats.to_integers(params, SIZES)
        codes = random_language.codes(3, 20)
        found = np.asarray(code_model.build(SIZES).all_frequencies(integers, codes))
        own = np.take_along_axis(found, codes[..., None], axis=-1)[..., 0]
        expected = np.asarray(bits(params, codes, True))
        # The parabola between powers of two, and frequencies of 16 bits.
        np.testing.assert_allclose(-np.log2(own / 65536), expected, rtol=0, atol=0.05)

    @pytest.mark.slow
    def test_resumed_run_is_the_same(self):
        whole = self.begin("whole")
        self.assertTrue(whole.train(lambda: False))
        first = self.begin("parts")
        answers = iter([False, False, False, True])
        self.assertFalse(first.train(lambda: next(answers)))
        second = self.begin("parts")
        self.assertEqual(second.step, 3)
        self.assertTrue(second.train(lambda: False))
        for one, two in zip(
            jax.tree.leaves(whole.params), jax.tree.leaves(second.params), strict=True
        ):
            np.testing.assert_array_equal(one, two)
        with self.assertRaisesRegex(ValueError, "a run of another config.language"):
            self.begin("parts", learning_rate=0.1)

    @pytest.mark.slow
    def test_a_run_goes_on_for_more_steps(self):
        self.begin(num_steps=2, rounded_steps=1).train(lambda: False)
        longer = self.begin(num_steps=4, rounded_steps=1)
        self.assertEqual(longer.step, 2)
        self.assertTrue(longer.train(lambda: False))
        self.assertEqual(longer.step, 4)

    def test_half_of_the_steps_have_the_codebooks_of_low_bandwidths(self):
        run = self.begin()  # bandwidths of 2, 4 and 8 codebooks; a model of 3
        counts = [run._batch(step)[0].shape[1] for step in range(12)]
        self.assertEqual(counts, [3, 2] * 6)

    @pytest.mark.slow
    def test_learns(self):
        constant = [np.full((3, 30), 7, np.int32)] * 4
        run = self.begin(num_steps=40, rounded_steps=10, learning_rate=0.02)
        run._rows = run._held_out = constant
        run._shares = np.full(4, 0.25)
        run.train(lambda: False)
        self.assertGreater(run.validate(True)["saved_percent"], 60)
        path = self.folder / "a_language.safetensors"
        run.export(path, name="a", codec="ab" * 32, licence="")
        coder = language_coder.LanguageCoder(language_file.load(path))
        (data,) = coder.encode(constant[:1])
        np.testing.assert_array_equal(coder.decode([data], [30], 3)[0], constant[0])
        ideal = run.validate(True)["bits"] * 90 / 8
        self.assertBetween(len(data), 0.9 * ideal, 1.1 * ideal + 4)

    @pytest.mark.slow
    def test_command(self):
        settings = {"data": str(CLIPS), "workdir": str(self.folder), "licence": "CC0-1.0"}
        self.assertEqual(train_language.run(small_variant(), **settings), 0)
        model = language_file.load(self.folder / "encodec_tiny_language.safetensors")
        self.assertEqual((model.name, model.licence), ("encodec_tiny", "CC0-1.0"))
        self.assertTrue((self.folder / "codes.safetensors").is_file())
        self.assertIn("saved_percent_2", (self.folder / "validation.csv").read_text())

    def test_files_that_cannot_be_read_are_left_out(self):
        sound = self.folder / "sound"
        sound.mkdir()
        clip = CLIPS / "speech_numbers.flac"
        shutil.copy(clip, sound)
        (sound / "cut.flac").write_bytes(clip.read_bytes()[:5000])
        codec = encodec_hk.load("encodec_tiny")
        path = self.folder / "run" / "codes.safetensors"
        rows = language_codes.load(path, codec, str(sound), 2, self.lines.append)
        self.assertRegex("\n".join(self.lines), r"^\S+cut.flac: .*; the file is left out$")
        (whole,) = language_codes.load(path, codec, str(sound), 2, self.lines.append)
        np.testing.assert_array_equal(np.concatenate(rows, axis=1), whole)
        (sound / "speech_numbers.flac").unlink()
        with self.assertRaisesRegex(ValueError, "sound: found no sound"):
            language_codes.load(self.folder / "other", codec, str(sound), 2, self.lines.append)

    @parameterized.parameters("segmented", "look_ahead")
    @pytest.mark.slow
    def test_variants(self, kind):
        """Trains on a codec with segments, or with look-ahead, and codes its files."""
        config = small_variant(num_steps=3, rounded_steps=1)
        config.model = random_networks.small(**random_networks.VARIANTS[kind])
        config.language.num_codebooks = 2
        config.inference.bandwidth = config.model.bandwidths[0]
        path = self.folder / "codec.safetensors"
        facts = {"source": "random", "source_sha256": "", "licence": "CC0-1.0"}
        params = random_networks.random_params(config.model)
        checkpoint.save(path, params, config.model, name=config.name, **facts)
        run = {"checkpoint": str(path), "data": str(CLIPS), "workdir": str(self.folder)}
        self.assertEqual(train_language.run(config, **run), 0)
        model = language_file.load(self.folder / "encodec_tiny_language.safetensors")
        codec = encodec_hk.load(path)
        self.assertEqual(model.codec, codec.codes_of.fingerprint)
        rows = language_codes.load(
            self.folder / "codes.safetensors", codec, str(CLIPS), 2, self.lines.append
        )
        if kind == "segmented":  # of which a language model sees one at a time
            self.assertLessEqual(max(row.shape[1] for row in rows), codec.framing.segment_frames)
        coder = language_coder.LanguageCoder(model, rows=2)
        header = dataclasses.replace(ecdc.header(codec, 2, 500, 1), language=model.fingerprint)
        encoded = codec.encode(np.ones((1, 500, codec.channels), np.float32), num_codebooks=2)
        frames = list(codec.framing.frames(500))
        written = np.split(encoded.codes[0], np.cumsum(frames)[:-1], axis=1)
        file = io.BytesIO()
        writer = bitstream.open_writer(file, header, coder=coder)
        for index, codes in enumerate(written):
            scale = None if encoded.scales is None else encoded.scales[0, index : index + 1]
            writer.write(codes, scale)
        writer.finish(500)
        file.seek(0)
        blocks = bitstream.open_reader(file, coder=lambda header: coder).blocks()
        found = np.concatenate([block.codes for block in blocks], axis=1)
        np.testing.assert_array_equal(found, encoded.codes[0])

    @parameterized.parameters(
        ("training.num_steps", 0, "config.language.training.num_steps: got 0, must be"),
        ("training.rounded_steps", 7, "config.language.training.rounded_steps: got 7, must be"),
        ("width", 513, "config.language.width: got 513, must be at most 512"),
        ("num_codebooks", 9, "config.language.num_codebooks: got 9, must be at most the 8"),
        ("dilations", (0,), "config.language.dilations: got"),
    )
    def test_wrong_configs(self, field, value, message):
        config = small_variant()
        config.update_from_flattened_dict({f"language.{field}": value})
        with self.assertRaisesRegex(ValueError, message):
            language_loop.validate(config)


if __name__ == "__main__":
    absltest.main()
