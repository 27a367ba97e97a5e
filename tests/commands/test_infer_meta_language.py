"""`run.py infer --entropy=meta`, files with Meta's language model, and `run.py info` of them."""

import functools
import io
import pathlib
import tempfile
from typing import Any

import numpy as np
import pytest
from absl.testing import absltest

from encodec_hk.commands import convert
from encodec_hk.commands import info
from encodec_hk.language import language_file
from encodec_hk.system import file_paths
from encodec_hk.transcode import plan
from tests import infer_cases
from tests import meta_files
from tests.language import random_language


@functools.cache
def language(name: str = "encodec_24khz") -> str:
    """Return a converted language model with random weights."""
    folder = tempfile.mkdtemp()
    source = meta_files.save_language(folder, name)
    output = f"{folder}/language.safetensors"
    convert.run(None, source=str(source), output=output)
    return output


class MetaLanguageTest(infer_cases.CodesTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.shared = infer_cases.meta_codec()

    def run_with(self, source: str, target: str, **settings: Any) -> str:
        return self.run_to(source, target, language=language(), **settings)

    def test_through_codes(self) -> None:
        source = self.write("a.wav", infer_cases.noise(infer_cases.RATE))
        plain = self.run_to(source, "plain.ecdc")
        packed = self.run_with(source, "packed.ecdc", entropy="meta")
        self.assertTrue(self.header(packed).lm)
        like, codes = self.header(packed), self.codes(plain)
        self.assertEqual(
            pathlib.Path(packed).read_bytes(), meta_files.write_with_language(like, codes, None)
        )
        expected = self.samples(self.run_to(plain, "plain.wav"))
        found = self.samples(self.run_with(packed, "packed.wav"))
        np.testing.assert_array_equal(found, expected)

    def test_copies(self) -> None:
        """A copy is plain unless told otherwise; both ways keep the codes."""
        plain = self.run_to(self.write("a.wav", infer_cases.noise(5000)), "plain.ecdc")
        packed = self.run_with(plain, "packed.ecdc", entropy="meta")
        again = self.run_with(packed, "again.ecdc")
        self.assertEqual(pathlib.Path(again).read_bytes(), pathlib.Path(plain).read_bytes())
        low = self.run_with(packed, "low.ecdc", num_codebooks=1)
        np.testing.assert_array_equal(self.codes(low), self.codes(plain)[:1])

    @pytest.mark.slow
    def test_pipes(self) -> None:
        """The length comes first, so codes wait until it is known."""
        source = self.write("a.wav", infer_cases.noise(5000))
        expected = pathlib.Path(self.run_with(source, "a.ecdc", entropy="meta")).read_bytes()
        sound = pathlib.Path(self.write("b.wav", infer_cases.noise(5000))).read_bytes()
        settings = {"suffix": ".ecdc", "language": language()}
        self.assertEqual(self.through_pipes(sound, entropy="meta", **settings), expected)
        self.assertEqual(
            self.through_pipes(expected, suffix=".wav", language=language())[44:],
            self.to_pipe(self.path("a.ecdc"), language=language())[44:],
        )

    def test_a_codec_whose_files_are_of_version_1(self) -> None:
        self.codec = infer_cases.like(self.shared, source="trained by run.py train")
        source = self.write("a.wav", infer_cases.noise(900))
        header = self.header(self.run_with(source, "a.ecdc", entropy="meta"))
        self.assertEqual((header.version, header.lm), (0, True))
        plain = self.run_to(source, "b.ecdc")
        self.fails(
            "--entropy=meta: for version 0 alone",
            plain,
            self.path("c.ecdc"),
            entropy="meta",
            language=language(),
        )
        self.fails(
            "--entropy=meta: for version 0 alone; got v1",
            source,
            self.path("c.ecdc"),
            entropy="meta",
            format="v1",
            language=language(),
        )

    def test_refused(self) -> None:
        source = self.write("a.wav", infer_cases.noise(900))
        target = self.path("b.ecdc")
        self.fails("--entropy=meta: needs --language=FILE", source, target, entropy="meta")
        self.fails(
            "--entropy: got 'x', must be one of auto, none, language, meta",
            source,
            target,
            entropy="x",
        )
        self.fails("no such file", source, target, entropy="meta", language=self.path("x"))
        other = language("encodec_48khz")
        self.fails("the language model here is of", source, target, entropy="meta", language=other)
        codes = self.run_with(source, "a.ecdc", entropy="meta")
        message = (
            r"a.ecdc: its codes are compressed with Meta's language model \(lm: true\); --lang"
        )
        for suffix in (".wav", ".ecdc"):
            self.fails(message, codes, self.path(f"c{suffix}"))
        self.fails("the language model here is of", codes, self.path("c.wav"), language=other)
        data = pathlib.Path(codes).read_bytes()
        pathlib.Path(codes).write_bytes(data[:-2])
        message = "a.ecdc: cut off after .* s, or written where the language model gives other prob"
        self.fails(message, codes, self.path("c.wav"), language=language())

    def test_another_model(self) -> None:
        self.codec = infer_cases.like(self.shared, name="encodec_24khz_small")
        source = self.write("a.wav", infer_cases.noise(900))
        message = "--entropy=meta: for version 0 alone; got .*, must be encodec_24khz or encodec_48"
        settings = {"entropy": "meta", "language": language()}
        self.fails(message, source, self.path("b.ecdc"), **settings)

    def test_info(self) -> None:
        source = self.write("a.wav", infer_cases.noise(2 * infer_cases.RATE))
        path = self.run_with(source, "a.ecdc", entropy="meta")
        out = io.StringIO()
        self.assertEqual(info.run(None, path, out), 0)
        size = pathlib.Path(path).stat().st_size
        self.assertEqual(
            out.getvalue().splitlines()[1:],
            [
                f"format       .ecdc version 0, {size:,} bytes",
                "model        encodec_24khz",
                "checkpoint   not stored: any of that model",
                "signal       24000 Hz, mono, 48,000 samples (2.00 s)",
                "codes        2 codebooks of 10 bits, a frame every 320 samples",
                "content      not read: needs the language model",
                f"bandwidth    1.5 kbps; {size * 4 / 1000:.4g} kbps as a file",
                "language     model of Meta's",
                "state        not checked",
            ],
        )

    def test_the_default_writes_none(self) -> None:
        self.assertEqual(plan.Options().entropy, "auto")
        source = self.write("a.wav", infer_cases.noise(900))
        self.assertFalse(self.header(self.run_with(source, "a.ecdc")).lm)
        path = self.run_with(source, "b.ecdc", format="v1")
        self.assertIsNone(self.header(path).language)

    def test_the_model_of_the_other_kind(self) -> None:
        source = self.write("a.wav", infer_cases.noise(900))
        target = self.path("b.ecdc")
        own = self.path("own_language.safetensors")
        sizes = random_language.SIZES
        params = random_language.params(sizes)
        model = language_file.LanguageModel(params, sizes, "x", "ab" * 32, "random", "CC0-1.0")
        language_file.save(own, model)
        message = (
            "^--entropy=meta: needs --language=FILE, a language model of Meta's that `convert` has "
            "made; got one for --entropy=language$"
        )
        self.fails(message, source, target, entropy="meta", language=own)
        message = (
            "^--entropy=language: needs a language model that `train_language` has written; "
            "--language names one for --entropy=meta$"
        )
        self.fails(message, source, target, entropy="language", language=language())
        codes = self.run_with(source, "a.ecdc", entropy="meta")
        message = r"a.ecdc: its codes are compressed with Meta's language model \(lm: true\)"
        self.fails(message, codes, self.path("c.wav"), language=own)
        codec = str(file_paths.shipped("checkpoints") / "encodec_tiny.safetensors")
        message = (
            "not a language model \\(its metadata has no format=encodec_hk_language or "
            "encodec_hk_meta_language\\)$"
        )
        self.fails(message, source, target, language=codec)


if __name__ == "__main__":
    absltest.main()
