"""The page in a real browser: codes, files, sound, the microphone, keys, errors."""

import io
import pathlib
import struct
import tempfile
import zlib

import numpy as np
import pytest
import soundfile
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from encodec_hk import bitstream
from encodec_hk.language import language_coder
from encodec_hk.language import language_file
from encodec_hk.system import file_paths
from tests import browser
from tests import random_networks
from tests import web_cases
from tests.language import random_language

MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
EQUAL_CODES = 0.9995  # the others are near-ties
FULL_SCALE_ERROR = 1e-4


def header(codec, num_codebooks, num_samples, **changes):
    fields = {
        "version": 1,
        "name": codec.name,
        "sample_rate": 24000,
        "channels": 1,
        "hop_length": 320,
        "bits": 10,
        "fingerprint": codec.fingerprint,
    }
    fields |= {"num_codebooks": num_codebooks, "num_samples": num_samples, **changes}
    return bitstream.Header(**fields)


def written(codec, codes, num_samples, coder=None, **changes):
    """The bytes that `run.py infer` writes for codes [K, F]; without a coder, --entropy=none."""
    file = io.BytesIO()
    language = coder and coder.fingerprint
    own = header(codec, len(codes), num_samples, language=language, **changes)
    writer = bitstream.open_writer(file, own, coder=coder)
    writer.write(codes)
    writer.finish(num_samples)
    return file.getvalue()


class WebPageTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        driver = cls.enterClassContext(browser.chromium(cls.folder, *MICROPHONE))
        cls.codec = encodec_hk.load("encodec_tiny")
        samples = web_cases.sound("speech_reading", 2.51)
        model = random_language.counting_model(cls.codec, samples[None, :, None])
        cls.coder = language_coder.LanguageCoder(model)
        language_file.save(cls.folder / "model.safetensors", model)
        web_cases.write_page(cls.codec, cls.folder / "page", cls.folder / "model.safetensors")
        url = cls.enterClassContext(web_cases.served(cls.folder / "page"))
        cls.page = web_cases.Page(driver, cls.folder, url)
        cls.page.open()

    def tearDown(self):
        super().tearDown()
        self.assertEqual([line["message"] for line in self.page.driver.get_log("browser")], [])

    def encode(self, samples):
        return np.asarray(self.codec.encode([samples[:, None]], num_codebooks=8).codes[0])

    @parameterized.parameters("PCM_16", "PCM_24", "FLOAT")
    def test_sound_to_codes(self, subtype):
        data = web_cases.wav(web_cases.sound("speech_reading", 2.51), subtype)
        samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        expected = self.encode(samples)
        self.page.code(f"{subtype}.wav", data)
        file = self.page.saved(f"{subtype}_6kbps.ecdc")
        found_header, codes = web_cases.read(file, self.coder)
        language = self.coder.fingerprint
        self.assertEqual(found_header, header(self.codec, 8, len(samples), language=language))
        self.assertGreaterEqual(np.mean(codes == expected), EQUAL_CODES)
        if np.array_equal(codes, expected):
            self.assertEqual(file, written(self.codec, expected, len(samples), self.coder))
            self.assertRegex(self.page.text("status"), r"^Saved 1\.\d kB\. .* \d+ % smaller\.$")
        decoded = self.codec.decode(self.codec.encoded(codes[None, :4]))[0, :, 0]
        np.testing.assert_allclose(self.page.decoded(1), decoded, rtol=0, atol=FULL_SCALE_ERROR)

    def test_save_a_lower_bandwidth(self):
        samples = web_cases.sound("music_guitar", 1.2)
        self.page.code("lower.wav", web_cases.wav(samples, "FLOAT"))
        self.page.press("2")
        few = web_cases.read(self.page.saved("lower_1.5kbps.ecdc"), self.coder)[1]
        self.page.press("4")
        all_codes = web_cases.read(self.page.saved("lower_6kbps.ecdc"), self.coder)[1]
        np.testing.assert_array_equal(few, all_codes[:2])
        self.assertIn("1.5 kbps", self.page.text("tracks"))

    @parameterized.parameters((8, 80_001), (5, 900), (8, 1))
    def test_open_codes(self, num_codebooks, num_samples):
        codes = self.encode(web_cases.sound("music_tabla")[:num_samples])[:num_codebooks]
        self.page.code("given.ecdc", written(self.codec, codes, num_samples))
        decoded = self.codec.decode(self.codec.encoded(codes[None]))[0, :, 0]
        found = self.page.decoded({8: 2, 5: 2}[num_codebooks])
        np.testing.assert_allclose(found, decoded, rtol=0, atol=FULL_SCALE_ERROR)
        self.assertNotIn("Original", self.page.text("tracks"))

    def test_open_and_save_with_the_language_model(self):
        samples = web_cases.sound("speech_reading", 2.5)
        codes = self.encode(samples)
        file = written(self.codec, codes, len(samples), self.coder)
        self.assertLess(len(file), 0.9 * len(written(self.codec, codes, len(samples))))
        self.page.code("coded.ecdc", file)
        sent = self.page.js(
            "return window.sent.filter((m) => m.kind === 'codes').flatMap((m) => [...m.codes])"
        )
        np.testing.assert_array_equal(np.reshape(sent, (-1, 8)).T, codes)
        decoded = self.codec.decode(self.codec.encoded(codes[None]))[0, :, 0]
        np.testing.assert_allclose(self.page.decoded(2), decoded, rtol=0, atol=FULL_SCALE_ERROR)
        self.page.press("3")
        self.assertEqual(self.page.saved("coded_6kbps.ecdc"), file)

    @pytest.mark.slow
    def test_any_format_of_the_browser(self):
        self.page.code("beat.flac", (web_cases.CLIPS / "music_beat.flac").read_bytes())
        found_header, codes = web_cases.read(self.page.saved("beat_6kbps.ecdc"), self.coder)
        self.assertEqual(found_header.num_samples, 5 * 24000)
        expected = self.encode(web_cases.sound("music_beat"))
        # Another resampler: the coarse codes agree, the fine ones less.
        self.assertGreater(np.mean(codes[0] == expected[0]), 0.8)

    @pytest.mark.slow
    def test_threads(self):
        samples = web_cases.sound("speech_reading", 1.5)
        url = self.enter_context(web_cases.served(self.folder / "page", ISOLATED))
        self.addCleanup(self.page.open, self.page.url)
        self.page.open(url)
        self.page.code("threads.wav", web_cases.wav(samples, "FLOAT"))
        loaded = self.page.js("return window.sent.find(({ kind }) => kind === 'loaded')")
        cores = self.page.js("return navigator.hardwareConcurrency")
        self.assertEqual(loaded["threads"], min(4, cores))
        codes = web_cases.read(self.page.saved("threads_6kbps.ecdc"), self.coder)[1]
        self.assertGreaterEqual(np.mean(codes == self.encode(samples)), EQUAL_CODES)

    def test_microphone(self):
        page = self.page
        page.js("delete document.documentElement.dataset.coded; window.sent.length = 0")
        page.find("#record").click()
        page.wait("/0:0[1-9]/.test(document.getElementById('status').textContent)")
        page.find("#record").click()
        page.wait("document.documentElement.dataset.coded === 'Recording'")
        decoded = page.decoded(2)
        self.assertGreater(len(decoded), 24000)
        self.assertGreater(np.abs(decoded).max(), 0.01)  # the fake device beeps

    def test_switches_on_the_same_sample(self):
        page = self.page
        samples = web_cases.sound("speech_numbers", 2.3)
        page.code("numbers.wav", web_cases.wav(samples, "FLOAT"))
        page.js("window.starts.length = 0")
        page.find("#play").click()
        page.wait("Number(document.getElementById('position').value) > 0.2")
        pieces = page.js("return window.starts.map(({ when, size }) => [when * 24000, size])")
        for first in range(0, len(pieces), 4):  # the original and three bandwidths at once
            self.assertLen({tuple(piece) for piece in pieces[first : first + 4]}, 1)
        whens, sizes = np.array(pieces[::4]).T
        np.testing.assert_allclose(np.diff(whens), sizes[:-1], atol=1e-3)  # without gaps
        np.testing.assert_allclose(whens, np.round(whens), atol=1e-3)
        gains = "[...new Set(window.starts.map(({ into }) => into))].map((g) => g.gain.value)"
        self.assertEqual(page.js(f"return {gains}"), [0, 0, 0, 1])
        count = len(pieces)
        page.press("1")
        page.wait(f"{gains}[0] > 0.99")
        self.assertTrue(page.find("#tracks input").is_selected())
        restarted = page.js("return window.starts.slice(0, arguments[0]).length", count)
        self.assertEqual(restarted, count)
        original = page.js("return [...window.starts[0].samples.slice(0, 100)]")
        np.testing.assert_array_equal(np.float32(original), samples[:100])
        page.press(" ")
        page.wait("document.getElementById('play').textContent === 'Play'")
        still = page.js("return document.getElementById('position').value")
        self.assertEqual(page.js("return document.getElementById('position').value"), still)

    def test_keys(self):
        from selenium.webdriver.common.keys import Keys

        page = self.page
        page.code("keys.wav", web_cases.wav(web_cases.sound("speech_numbers", 3), "FLOAT"))
        position = "return Number(document.getElementById('position').value)"
        page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
        self.assertAlmostEqual(page.js(position), 1.0, places=3)
        chosen = "return Number(document.querySelector('#tracks :checked').value)"
        page.press("1")
        self.assertEqual(page.js(chosen), 0)
        page.find("#tracks input").send_keys(Keys.ARROW_DOWN)
        page.press(Keys.ARROW_DOWN)
        self.assertEqual(page.js(chosen), 2)
        page.press(Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_UP)
        self.assertEqual(page.js(chosen), 3)
        page.press(Keys.TAB)
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        self.assertEqual(page.js(outline), "solid")
        unnamed = page.js(
            "return [...document.querySelectorAll('button, input, progress')].filter((e) =>"
            "!e.textContent.trim() && !e.labels?.length && !e.ariaLabel "
            "&& !e.getAttribute('aria-labelledby')).map((e) => e.outerHTML)"
        )
        self.assertEqual(unnamed, [])

    def test_errors(self):
        codes = np.zeros((8, 200), np.int32)
        good = written(self.codec, codes, 64000)
        other = written(self.codec, codes, 64000, fingerprint="ab" * 32)
        named = written(self.codec, codes, 64000, name="other", fingerprint=None)
        long = written(self.codec, np.zeros((2, 50_000), np.int32), 16_000_000)
        size = 9 + struct.unpack("!I", good[5:9])[0]
        spoken = self.encode(web_cases.sound("speech_reading", 2))
        language = bytearray(written(self.codec, spoken, 48000, self.coder))
        language[size - 4 : size + 28] = b"\xab" * 32  # the language model's fingerprint
        language[size + 28 : size + 32] = struct.pack("!I", zlib.crc32(language[: size + 28]))
        changed = bytearray(good)
        changed[size + 1200] ^= 1
        for name, data, message in (
            ("noise.mp3", b"no sound at all" * 100, "cannot decode the file"),
            ("empty.wav", web_cases.wav(np.zeros(0, np.float32), "FLOAT"), "has no sound"),
            ("other.ecdc", other, r"made with encodec_tiny \(abababab\), this page has .*\(c0e4"),
            ("named.ecdc", named, "made with other, this page has encodec_tiny"),
            ("long.ecdc", long, r"lasts 11\.1 minutes; this page takes 10 minutes"),
            ("language.ecdc", language, "needs the language model abababab, this page has"),
            ("version.ecdc", good[:4] + b"\0" + good[5:], "version 0 .*reads version 1"),
            ("header.ecdc", good[:20] + b"?" + good[21:], "header is damaged"),
            ("changed.ecdc", changed, r"damaged after 1\.0 s"),
            ("cut.ecdc", good[:-200], r"cut off after 2\.0 s"),
        ):
            error = self.page.error(name, bytes(data))
            self.assertRegex(error, message)
            self.assertNotIn("\n", error)
        self.page.code("good.ecdc", good)  # the page goes on
        self.assertFalse(self.page.find("#error").is_displayed())

    @pytest.mark.slow
    def test_widths_and_colours(self):
        page, colours = self.page, {}
        self.addCleanup(page.command, "Emulation.setEmulatedMedia", features=[])
        page.js("delete document.documentElement.dataset.coded")
        page.find("#clips button:nth-child(4)").click()
        page.wait("document.documentElement.dataset.coded === 'Numbers'")
        for width in (360, 1200):
            page.resize(width)
            self.assertLessEqual(page.js("return document.documentElement.scrollWidth"), width)
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            page.command("Emulation.setEmulatedMedia", features=features)
            colours[scheme] = page.driver.execute_async_script(
                "const done = arguments[0], canvas = document.querySelector('.spectrogram canvas');"
                "const of = (s) => getComputedStyle(document.querySelector(s));"
                "setTimeout(() => done([of('body').backgroundColor, of('body').color,"
                "canvas.toDataURL()]), 100)"
            )
        for light, dark in zip(colours["light"], colours["dark"], strict=True):
            self.assertNotEqual(light, dark)


@pytest.mark.slow
class OtherModelsTest(absltest.TestCase):
    def open(self, codec, language=None):
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        driver = self.enter_context(browser.chromium(folder))
        web_cases.write_page(codec, folder / "page", language)
        url = self.enter_context(web_cases.served(folder / "page"))
        page = web_cases.Page(driver, folder, url)
        page.open()
        return page

    def test_a_decoder_that_lags(self):
        vocos = {"decoder": "vocos", "vocos": {"causal": True}}
        model_config = random_networks.small(sample_rate=24000, **vocos)
        params = random_networks.random_params(model_config)
        codec = encodec_hk.Codec(model_config, params, name="vocos")
        page = self.open(codec)
        samples = web_cases.sound("speech_reading", 1.3)
        page.code("vocos.wav", web_cases.wav(samples, "FLOAT"))
        decoded = codec.decode(codec.encode([samples[:, None]], num_codebooks=3))[0, :, 0]
        np.testing.assert_allclose(page.decoded(1), decoded, rtol=0, atol=FULL_SCALE_ERROR)

    def test_the_default_model_on_the_clips(self):
        codec = encodec_hk.load("encodec_24khz_small")
        path = file_paths.shipped("checkpoints") / "encodec_24khz_small_language.safetensors"
        coder = language_coder.LanguageCoder(language_file.load(path))
        page = self.open(codec, path)
        equal = total = 0
        for path in sorted(web_cases.CLIPS.glob("*.flac")):
            samples = web_cases.sound(path.stem)
            expected = codec.encode([samples[:, None]], bandwidth=12.0).codes[0]
            page.code(f"{path.stem}.wav", web_cases.wav(samples, "FLOAT"))
            page.press("5")
            file = page.saved(f"{path.stem}_12kbps.ecdc")
            codes = web_cases.read(file, coder)[1]
            self.assertEqual(file, written(codec, codes, len(samples), coder))
            equal += np.sum(codes == expected)
            total += codes.size
            decoded = codec.decode(codec.encoded(codes[None]))[0, :, 0]
            np.testing.assert_allclose(page.decoded(3), decoded, rtol=0, atol=FULL_SCALE_ERROR)
        self.assertGreaterEqual(equal / total, EQUAL_CODES)


if __name__ == "__main__":
    absltest.main()
