"""`run.py infer` and `info` with a language model."""

import dataclasses
import io
import threading

import numpy as np
from absl.testing import absltest

from encodec_hk import bitstream
from encodec_hk.commands import info
from encodec_hk.language import language_coder
from encodec_hk.language import language_file
from encodec_hk.transcode import plan
from encodec_hk.transcode import transcoder
from tests import infer_cases
from tests.language import random_language

RATE = infer_cases.RATE


class LanguageTest(infer_cases.CodesTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.shared = infer_cases.meta_codec()
        cls.trained = infer_cases.like(cls.shared, source="trained by run.py train")
        cls.audio = infer_cases.noise(3 * RATE + 77)
        cls.model = random_language.counting_model(cls.shared, cls.audio[None])

    def setUp(self) -> None:
        super().setUp()
        self.language = self.path("a_language.safetensors")
        language_file.save(self.language, self.model)
        self.source = self.write("a.wav", self.audio)
        self.plain = self.run_to(self.source, "plain.ecdc", format="v1", entropy="none")
        self.coded = self.run_to(self.source, "coded.ecdc", format="v1", language=self.language)

    def size(self, path):
        with open(path, "rb") as file:
            return len(file.read())

    def decoded(self, path):
        coder = language_coder.LanguageCoder(self.model)
        with open(path, "rb") as file:
            blocks = list(bitstream.open_reader(file, coder=lambda header: coder).blocks())
        return np.concatenate([block.codes for block in blocks], axis=1)

    def test_round_trip(self) -> None:
        self.assertEqual(self.header(self.coded).language, self.model.fingerprint)
        self.assertIsNone(self.header(self.plain).language)
        self.assertLess(self.size(self.coded), 0.9 * self.size(self.plain))
        np.testing.assert_array_equal(self.decoded(self.coded), self.codes(self.plain))
        found = self.run_to(self.coded, "found.wav", language=self.language)
        expected = self.run_to(self.plain, "expected.wav")
        np.testing.assert_array_equal(self.samples(found), self.samples(expected))

    def test_language_model_loads_beside_the_codec(self) -> None:
        begun, results = threading.Event(), []

        def language():
            begun.set()
            return language_coder.LanguageCoder(self.model)

        def codec():
            self.assertTrue(begun.wait(60))
            return self.shared

        target = self.path("beside.wav")
        work = transcoder.Transcoder(
            self.coded, target, plan.Options(sample_format="float32"), codec, language=language
        )
        work.run(results.append)
        self.assertEqual([result.error for result in results], [None])
        expected = self.run_to(self.plain, "plain.wav")
        np.testing.assert_array_equal(self.samples(target), self.samples(expected))

    def test_copies(self) -> None:
        again = self.run_to(self.plain, "again.ecdc", language=self.language)
        back = self.run_to(self.coded, "back.ecdc", language=self.language, entropy="none")
        fewer = self.run_to(self.coded, "fewer.ecdc", language=self.language, num_codebooks=1)
        for path, expected in ((again, self.coded), (back, self.plain)):
            with open(path, "rb") as one, open(expected, "rb") as two:
                self.assertEqual(one.read(), two.read())
        self.assertEqual(self.header(fewer).language, self.model.fingerprint)
        np.testing.assert_array_equal(self.decoded(fewer), self.codes(self.plain)[:1])

    def test_pipes(self) -> None:
        with open(self.coded, "rb") as file:
            data = file.read()
        found = self.through_pipes(data, suffix=".ecdc", language=self.language, entropy="none")
        path = self.path("piped.ecdc")
        with open(path, "wb") as file:
            file.write(found)
        np.testing.assert_array_equal(self.codes(path), self.codes(self.plain))

    def test_a_named_model_makes_version_1_of_metas_model_too(self) -> None:
        for entropy in ("auto", "language"):
            path = self.run_to(
                self.source, f"{entropy}.ecdc", language=self.language, entropy=entropy
            )
            header = self.header(path)
            self.assertEqual((header.version, header.language), (1, self.model.fingerprint))
        path = self.run_to(self.source, "none.ecdc", language=self.language, entropy="none")
        self.assertEqual(self.header(path).version, 0)

    def test_info(self) -> None:
        out = io.StringIO()
        self.assertEqual(info.run(None, self.coded, out), 0)
        line = rf"language +model {self.model.fingerprint}; [\d,]+ instead of [\d,]+ bytes of codes"
        self.assertRegex(out.getvalue(), line + r", \d\d\.\d % saved")

    def test_refused(self) -> None:
        name = self.model.fingerprint[:16]
        self.fails(
            f"coded.ecdc: needs the language model {name} of encodec_24khz; --language=FILE names",
            self.coded,
            self.path("b.wav"),
        )
        other = self.path("other.safetensors")
        params = {module: dict(values) for module, values in self.model.params.items()}
        params["head_0_logits"]["b"] = params["head_0_logits"]["b"] + 1
        language_file.save(other, dataclasses.replace(self.model, params=params))
        self.fails(
            f"coded.ecdc: made with language model {name}, the one here is",
            self.coded,
            self.path("b.wav"),
            language=other,
        )
        foreign = dataclasses.replace(self.model, codec="ab" * 32)
        language_file.save(other, foreign)
        arguments = (self.source, self.path("b.ecdc"))
        self.fails(
            "--entropy=language: the language model is for the codec abababab",
            *arguments,
            format="v1",
            language=other,
            entropy="language",
        )
        self.fails(
            "--entropy=language: got a file of version 0, must be version 1",
            *arguments,
            format="v0",
            language=self.language,
            entropy="language",
        )
        self.fails(
            "--entropy=language: the checkpoint has no language model; --language=FILE names one",
            *arguments,
            format="v1",
            entropy="language",
        )
        self.fails(
            "none.safetensors: no such file", *arguments, format="v1", language="none.safetensors"
        )
        self.fails("--entropy: got 'x', must be one of auto, none", *arguments, entropy="x")

    def test_auto_stores_what_the_model_does_not_know_plainly(self) -> None:
        foreign = dataclasses.replace(self.model, codec="ab" * 32)
        other = self.path("other.safetensors")
        language_file.save(other, foreign)
        path = self.run_to(self.source, "b.ecdc", format="v1", language=other)
        self.assertIsNone(self.header(path).language)


if __name__ == "__main__":
    absltest.main()
