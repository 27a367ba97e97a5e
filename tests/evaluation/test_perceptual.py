"""ViSQOL, PESQ and STOI against their own packages."""

import functools
import sys
import warnings
from unittest import mock

import numpy as np
import pesq as pesq_python
import pystoi
import pytest
import soxr
import visqol as visqol_python
from absl.testing import parameterized

from encodec_hk.evaluation import perceptual
from tests.evaluation import test_metrics


class VisqolTest(parameterized.TestCase):
    @parameterized.parameters("music_tabla", "speech_reading")
    def test_falls_with_noise(self, name):
        reference = test_metrics.clip(name, 24000)
        noise = test_metrics.normal(len(reference), scale=1.0)
        # Any signal compared with itself has 4.7321, as Google's conformance case of a castanet.
        best = perceptual.visqol(reference, reference, 24000)
        self.assertAlmostEqual(best, 4.7321, places=4)
        values = [
            perceptual.visqol(reference, reference + s * noise, 24000) for s in test_metrics.SCALES
        ]
        self.assertEqual([best, *values], sorted([best, *values], reverse=True))
        self.assertLess(values[-1], 4.0)
        self.assertGreater(values[-1], 1.0)

    @parameterized.parameters(("audio", 48000), ("speech", 16000))
    @pytest.mark.slow
    def test_equals_the_package(self, mode, rate):
        api = visqol_python.VisqolApi()
        api.create(mode=mode, use_lattice_model=mode == "speech")

        # 16 bits at the sample rate of the mode: nothing to prepare.
        reference = test_metrics.clip("speech_reading", rate)
        estimate = (
            np.rint((reference + test_metrics.normal(len(reference), scale=5e-4)) * 2**15) / 2**15
        )
        expected = api.measure_from_arrays(reference, estimate, rate).moslqo
        self.assertEqual(perceptual.visqol(reference, estimate, rate, mode), expected)

        # Loud stereo at another rate: everything to prepare.
        pair = [np.stack([x, 0.5 * x], axis=1) for x in (reference, estimate)]
        pair = [soxr.resample(6 * x.astype(np.float32), rate, 22050) for x in pair]
        self.assertGreater(np.abs(pair[0]).max(), 1.0)
        prepared = []
        for samples in pair:
            samples = np.clip(soxr.resample(samples, 22050, rate).astype(np.float64), -0.99, 0.99)
            samples = np.rint(samples * 32768) / 32768
            silence = np.zeros(rate // 2)
            prepared.append(np.concatenate([silence, samples.mean(axis=1), silence]))
        expected = api.measure_from_arrays(*prepared, rate).moslqo
        value = perceptual.visqol(*pair, 22050, mode, pad_seconds=0.5)
        self.assertAlmostEqual(value, expected, places=9)
        self.assertLess(value, 4.7)

    def test_speech_mode(self):
        reference = test_metrics.clip("speech_reading", 16000)
        noise = test_metrics.normal(len(reference), scale=1.0)
        scales = (0.0, 1e-3, 1e-2)
        values = [
            perceptual.visqol(reference, reference + s * noise, 16000, "speech") for s in scales
        ]
        self.assertGreater(values[0], 4.3)
        self.assertEqual(values, sorted(values, reverse=True))
        self.assertLess(values[-1], 2.0)

    @parameterized.parameters("audio", "speech")
    def test_silence(self, mode):
        rate = perceptual.VISQOL_RATES[mode]
        sound, silence = test_metrics.clip("speech_reading", rate), np.full(3 * rate, 1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.assertTrue(np.isnan(perceptual.visqol(silence, sound, rate, mode)))
            self.assertTrue(np.isnan(perceptual.visqol(silence, silence, rate, mode)))
            self.assertEqual(perceptual.visqol(sound, silence, rate, mode), 1.0)

    @parameterized.parameters(("audio", 46080), ("speech", 10240))
    def test_the_shortest(self, mode, shortest):
        rate = perceptual.VISQOL_RATES[mode]
        sound = test_metrics.clip("speech_reading", rate)[rate:]
        score = functools.partial(perceptual.visqol, sample_rate=rate, mode=mode, pad_seconds=0)
        self.assertGreater(score(sound[:shortest], sound[:shortest]), 4.0)
        with self.assertRaisesRegex(
            ValueError, f"^got .* s of audio and 0 s .* {mode} mode needs 0"
        ):
            score(sound[: shortest - 1], sound[: shortest - 1])
        # Added silence counts towards the length.
        self.assertGreater(perceptual.visqol(sound[:10], sound[:10], rate, mode, 0.5), 1.0)

    def test_bad_settings(self):
        with self.assertRaisesRegex(
            ValueError, "^mode: got 'music', must be one of audio, speech$"
        ):
            perceptual.visqol(np.ones(5), np.ones(5), 24000, "music")
        with self.assertRaisesRegex(ValueError, "^pad_seconds: got -1, must be 0 or more$"):
            perceptual.visqol(np.ones(5), np.ones(5), 24000, pad_seconds=-1)

    @parameterized.parameters(
        ("audio", "visqol"), ("speech", "visqol"), ("speech", "ai_edge_litert.interpreter")
    )
    def test_missing_packages(self, mode, module):
        sound = test_metrics.normal(48000)
        perceptual._visqol_model.cache_clear()
        self.addCleanup(perceptual._visqol_model.cache_clear)
        with (
            mock.patch.dict(sys.modules, {module: None}),
            self.assertRaisesRegex(ValueError, r"^ViSQOL is not .*'\.\[evaluate\]'.*$"),
        ):
            perceptual.visqol(sound, sound, 24000, mode)

    def test_models_are_loaded_once(self):
        sound = test_metrics.clip("speech_reading", 48000)
        perceptual.visqol(sound, sound, 48000)
        with mock.patch.object(visqol_python.VisqolApi, "create", side_effect=AssertionError):
            perceptual.visqol(sound, sound, 48000)


class SpeechTest(parameterized.TestCase):
    """PESQ and STOI."""

    def noisy(self, scale, seconds=3.0):
        reference = test_metrics.clip("speech_reading", 16000, seconds)
        return reference, reference + test_metrics.normal(len(reference), scale=scale)

    @parameterized.parameters((1e-3, 2.9, 3.6), (1e-2, 1.2, 1.7))
    def test_pesq_equals_the_package(self, scale, low, high):
        pair = self.noisy(scale)
        value = perceptual.pesq(*pair, 16000)
        self.assertEqual(value, pesq_python.pesq(16000, *map(np.float32, pair), "wb"))
        self.assertBetween(value, low, high)

    @parameterized.parameters((1e-3, 0.98, 1.0), (1e-1, 0.3, 0.8))
    def test_stoi_equals_the_package(self, scale, low, high):
        pair = self.noisy(scale)
        value = perceptual.stoi(*pair, 16000)
        self.assertAlmostEqual(value, pystoi.stoi(*pair, 16000), places=6)
        self.assertBetween(value, low, high)

    def test_equal_signals_score_highest(self):
        reference, _ = self.noisy(0.0)
        self.assertAlmostEqual(perceptual.pesq(reference, reference, 16000), 4.644, places=3)
        self.assertAlmostEqual(perceptual.stoi(reference, reference, 16000), 1.0, places=9)

    @parameterized.parameters(perceptual.pesq, perceptual.stoi)
    def test_other_rates_and_channels(self, metric):
        """Stereo at 48 kHz: resampled, then averaged."""
        wide = [soxr.resample(x, 16000, 48000) for x in self.noisy(3e-3)]
        stereo = [np.stack([1.2 * x, 0.5 * x], axis=1).astype(np.float32) for x in wide]
        mono = [soxr.resample(x, 48000, 16000).mean(axis=1) for x in stereo]
        self.assertAlmostEqual(metric(*stereo, 48000), metric(*mono, 16000), places=3)

    def test_pesq_of_long_speech_is_the_mean_of_parts(self):
        reference, estimate = self.noisy(1e-3)
        other = self.noisy(1e-2)[1]
        silence = np.zeros(len(reference))
        long = np.concatenate([reference, silence] * 4)  # 24 s: two parts of 12 s
        half = len(long) // 2
        noisy = long.copy()
        noisy[: len(reference)] = estimate
        noisy[half : half + len(reference)] = other
        expected = [
            perceptual.pesq(long[part], noisy[part], 16000)
            for part in (slice(half), slice(half, None))
        ]
        value = perceptual.pesq(long, noisy, 16000)
        self.assertAlmostEqual(value, np.mean(expected), places=9)
        # A silent part does not count.
        quiet = np.concatenate([long[:half], np.zeros(half)])
        value = perceptual.pesq(quiet, np.concatenate([noisy[:half], np.zeros(half)]), 16000)
        self.assertAlmostEqual(value, expected[0], places=9)

    @parameterized.parameters((perceptual.pesq, 1.0), (perceptual.stoi, 0.0))
    def test_silence(self, metric, worst):
        sound = test_metrics.clip("speech_reading", 16000)
        silence = np.zeros(len(sound))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.assertTrue(np.isnan(metric(silence, sound, 16000)))
            self.assertTrue(np.isnan(metric(silence, silence, 16000)))
            self.assertEqual(metric(sound, silence, 16000), worst)

    def test_too_little_speech_for_stoi(self):
        sound = np.zeros(16000)
        sound[4000:6000] = test_metrics.normal(2000)
        self.assertTrue(np.isnan(perceptual.stoi(sound, sound, 16000)))

    @parameterized.parameters(
        (perceptual.pesq, 4000, "PESQ needs 0.25 s"), (perceptual.stoi, 6554, "STOI needs 0.4096 s")
    )
    def test_the_shortest(self, metric, shortest, message):
        sound = test_metrics.clip("speech_reading", 16000)[8000:]
        self.assertGreater(metric(sound[:shortest], sound[:shortest], 16000), 0.9)
        with self.assertRaisesRegex(ValueError, f"^got .* s of audio, {message}$"):
            metric(sound[: shortest - 1], sound[: shortest - 1], 16000)

    @parameterized.parameters(
        (perceptual.pesq, "pesq", "pesq"), (perceptual.stoi, "pystoi", "evaluate")
    )
    def test_missing_packages(self, metric, module, extra):
        sound = test_metrics.normal(16000)
        with (
            mock.patch.dict(sys.modules, {module: None}),
            self.assertRaisesRegex(
                ValueError, rf"^\w+ is not installed: pip install '\.\[{extra}\]'"
            ),
        ):
            metric(sound, sound, 16000)
