"""Metrics against closed forms, torch and transformers."""

import functools
import pathlib
import warnings
from unittest import mock

import numpy as np
import pytest
import soundfile
import soxr
import torch
from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st
from transformers import audio_utils

from encodec_hk.evaluation import metrics
from encodec_hk.evaluation import perceptual

SCALES = (1e-4, 3e-4, 1e-3)
CLIPS = pathlib.Path(__file__).parents[2] / "assets" / "clips"
METRICS = {
    "si_snr": metrics.si_snr,
    "si_snr_windows": functools.partial(metrics.si_snr_windows, sample_rate=24000),
    "mel_distance": functools.partial(metrics.mel_distance, sample_rate=24000),
    "log_spectral_distance": functools.partial(metrics.log_spectral_distance, sample_rate=24000),
    "pesq": functools.partial(perceptual.pesq, sample_rate=24000),
    "stoi": functools.partial(perceptual.stoi, sample_rate=24000),
    "visqol": functools.partial(perceptual.visqol, sample_rate=24000),
}


def normal(shape, seed=0, scale=0.1):
    return scale * np.random.default_rng(seed).standard_normal(shape)


def at_snr(reference, decibels, seed=1):
    """Add zero-mean noise to a reference [T, C], orthogonal to it and `decibels` quieter."""
    centred = reference - reference.mean(axis=0)
    noise = normal(reference.shape, seed)
    noise -= noise.mean(axis=0)
    noise -= np.sum(noise * centred, axis=0) / np.sum(centred**2, axis=0) * centred
    loudness = np.sqrt(np.sum(centred**2, axis=0) / np.sum(noise**2, axis=0))
    return reference + noise * loudness * 10 ** (-np.asarray(decibels) / 20)


@functools.cache
def clip(name, sample_rate, seconds=3.0):
    """Return the start of a clip at a sample rate, mono, float64 [T], rounded to 16 bits."""
    samples, rate = soundfile.read(CLIPS / f"{name}.flac", always_2d=True)
    samples = soxr.resample(samples.mean(axis=1), rate, sample_rate)[: round(seconds * sample_rate)]
    return np.rint(samples * 2**15) / 2**15


class InputsTest(parameterized.TestCase):
    @parameterized.product(
        metric=list(METRICS),
        pair=(
            (np.ones((5, 1)), np.ones((5, 2))),
            (np.ones((5, 1)), np.ones(5)),
            (np.ones((5, 1)), np.ones((4, 1))),
            (np.ones((2, 5, 1)), np.ones((2, 5, 1))),
            (np.ones((0, 2)), np.ones((0, 2))),
            (np.ones((5, 0)), np.ones((5, 0))),
            (np.float32(1), np.float32(1)),
        ),
    )
    def test_shapes(self, metric, pair):
        with self.assertRaisesRegex(
            ValueError, r"^reference and estimate: got shapes \(.*\[T, C\]"
        ):
            METRICS[metric](*pair)

    @parameterized.product(metric=list(METRICS), value=(np.nan, np.inf, -np.inf))
    def test_finite(self, metric, value):
        good, bad = np.ones((48000, 1)), np.ones((48000, 1))
        bad[7] = value
        with self.assertRaisesRegex(ValueError, "^reference: got samples that are NaN or infinite"):
            METRICS[metric](bad, good)
        with self.assertRaisesRegex(ValueError, "^estimate: got samples that are NaN or infinite"):
            METRICS[metric](good, bad)

    @parameterized.parameters(*METRICS)
    def test_integers(self, metric):
        with self.assertRaisesRegex(
            ValueError, "^estimate: got samples of int16, must be of a flo"
        ):
            METRICS[metric](np.ones(5, np.float32), np.ones(5, np.int16))

    @parameterized.parameters(*sorted(METRICS.keys() - {"si_snr"}))
    def test_rates(self, metric):
        with self.assertRaisesRegex(ValueError, "^sample_rate: got 0, must be above 0"):
            METRICS[metric](np.ones(5), np.ones(5), sample_rate=0)

    @parameterized.parameters(*METRICS)
    @pytest.mark.few(*range(6))  # ViSQOL is slow to start
    def test_mono_as_one_channel_and_inputs_stay(self, metric):
        reference, estimate = normal(48000, 0), normal(48000, 1)
        copies = reference.copy(), estimate.copy()
        value = METRICS[metric](reference, estimate)
        self.assertIsInstance(value, float)
        self.assertEqual(METRICS[metric](reference[:, None], estimate[:, None]), value)
        np.testing.assert_array_equal((reference, estimate), copies)


class SiSnrTest(parameterized.TestCase):
    def test_by_hand(self):
        # The zero-mean reference is (1, -1, 1, -1); the estimate is twice that plus
        # (1, 1, -1, -1): energies are 4 to 1.
        reference = np.array([3.0, 1.0, 3.0, 1.0])
        estimate = np.array([3.0, -1.0, 1.0, -3.0])
        self.assertAlmostEqual(metrics.si_snr(reference, estimate), 10 * np.log10(4), places=12)

    @parameterized.parameters(-30.0, 0.0, 10.0, 90.0)
    def test_known(self, decibels):
        reference = normal((5000, 1)) + 0.3
        estimate = at_snr(reference, decibels)
        self.assertAlmostEqual(metrics.si_snr(reference, estimate), decibels, places=6)

    def test_channels_are_averaged(self):
        reference = normal((5000, 2)) * [1.0, 0.01]
        estimate = at_snr(reference, [10.0, 4.0])
        self.assertAlmostEqual(metrics.si_snr(reference, estimate), 7.0, places=8)

    @given(st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-3), st.floats(-2, 2))
    def test_volume_polarity_and_offset_do_not_matter(self, gain, offset):
        reference = normal((1000, 1))
        estimate = at_snr(reference, 10.0)
        self.assertAlmostEqual(metrics.si_snr(reference, gain * estimate + offset), 10.0, places=6)
        self.assertAlmostEqual(metrics.si_snr(gain * reference + offset, estimate), 10.0, places=6)

    def test_torch(self):
        pair = normal((2, 3000, 2), scale=1.0)
        s, e = (torch.tensor(x - x.mean(axis=0)) for x in pair)
        target = (s * e).sum(0) / s.square().sum(0) * s
        expected = 20 * torch.log10(target.norm(dim=0) / (e - target).norm(dim=0))
        self.assertAlmostEqual(metrics.si_snr(*pair), expected.mean().item(), places=10)

    def test_limits(self):
        reference = normal((1000, 2)).astype(np.float32)
        self.assertEqual(metrics.si_snr(reference, reference), 100.0)
        self.assertEqual(metrics.si_snr(reference, 0.3 * reference), 100.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.assertEqual(metrics.si_snr(reference, np.zeros_like(reference)), -100.0)
            constant = np.full((1000, 2), 0.1)  # its mean in floating point is not 0.1
            self.assertEqual(metrics.si_snr(reference, constant), -100.0)
            self.assertTrue(np.isnan(metrics.si_snr(constant, reference)))
            self.assertTrue(np.isnan(metrics.si_snr(0 * reference, 0 * reference)))
            self.assertTrue(np.isnan(metrics.si_snr(np.ones(1), np.ones(1))))

    def test_silent_channels_do_not_count(self):
        reference = normal((5000, 2))
        estimate = at_snr(reference, 10.0)
        self.assertAlmostEqual(metrics.si_snr(reference * [1, 0], estimate), 10.0, places=8)


class SiSnrWindowsTest(parameterized.TestCase):
    # The negative of audiocraft's SISNR(sample_rate, segment=5, overlap=0.5) for the same arrays.
    @parameterized.parameters(
        (24000, 1, 1, -0.029188337367045403),
        (24000, 59999, 1, 13.963794683322178),
        (24000, 60000, 1, 14.022845882507099),
        (24000, 60001, 2, 7.277390210464265),
        (24000, 120000, 1, 13.999250110066821),
        (24000, 120001, 1, 9.436078586001155),
        (44100, 500001, 2, 13.975535590983068),
        (101, 1117, 2, 14.03330634400927),
    )
    def test_audiocraft(self, sample_rate, steps, channels, expected):
        reference, estimate = self.pairs()[sample_rate, steps]
        self.assertEqual(reference.shape, (steps, channels))
        value = metrics.si_snr_windows(reference, estimate, sample_rate)
        self.assertAlmostEqual(value, expected, places=9)

    @staticmethod
    @functools.cache
    def pairs():
        """Return the signals of the values above, drawn one after the other."""
        rng = np.random.default_rng(0)
        found = {}
        for rate, steps, channels in (
            (24000, 1, 1),
            (24000, 59999, 1),
            (24000, 60000, 1),
            (24000, 60001, 2),
            (24000, 120000, 1),
            (24000, 120001, 1),
            (44100, 500001, 2),
            (101, 1117, 2),
        ):
            reference = rng.normal(size=(steps, channels)) * 0.1
            noise = rng.normal(size=(steps, channels)) * 0.02
            found[rate, steps] = reference, reference + noise
        return found

    def test_the_mean_over_windows(self):
        parts = [normal((500, 1), seed, scale=1e3) for seed in range(3)]
        reference = np.concatenate(parts)
        estimate = np.concatenate(
            [at_snr(p, db) for p, db in zip(parts, (10, 20, 40), strict=True)]
        )
        windows = [slice(start, start + 1000) for start in (0, 500)]
        expected = [metrics.si_snr(reference[w], estimate[w]) for w in windows]
        last = [np.pad(x[1000:], ((0, 500), (0, 0))) for x in (reference, estimate)]
        expected.append(metrics.si_snr(*last))
        value = metrics.si_snr_windows(reference, estimate, 100, window_seconds=10.0)
        self.assertAlmostEqual(value, np.mean(expected), places=6)

    def test_silence_is_finite(self):
        silence, sound = np.zeros(1000), normal(1000)
        self.assertEqual(metrics.si_snr_windows(silence, silence, 100), 0.0)
        self.assertEqual(metrics.si_snr_windows(sound, silence, 100), 0.0)
        self.assertLess(metrics.si_snr_windows(silence, sound, 100), -40.0)
        self.assertGreater(metrics.si_snr_windows(sound, sound, 100), 40.0)

    @parameterized.parameters(0.0, -1.0, 0.019, float("nan"), float("inf"))
    def test_windows_of_no_samples(self, seconds):
        with self.assertRaisesRegex(
            ValueError, "^window_seconds: got .* at 100 Hz, must be two sam"
        ):
            metrics.si_snr_windows(np.ones(5), np.ones(5), 100, window_seconds=seconds)


def reference_filters(sample_rate, window, bands):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about empty bands
        return audio_utils.mel_filter_bank(
            window // 2 + 1, bands, 0.0, sample_rate / 2, sample_rate, norm=None, mel_scale="htk"
        )


class MelDistanceTest(parameterized.TestCase):
    @parameterized.parameters((24000, 1, 2), (16000, 63, 1), (44100, 5001, 2), (24000, 24000, 1))
    def test_torch(self, sample_rate, steps, channels):
        pair = normal((2, steps, channels)) * np.array([1.0, 0.02])[:, None, None]
        distances = []
        for window in (64, 128, 256, 512, 1024, 2048):
            filters = torch.tensor(reference_filters(sample_rate, window, 64))
            filters = filters[:, filters.sum(0) > 0]
            edge = window - window // 4
            rest = -steps % (window // 4)
            spectra = torch.stft(
                torch.nn.functional.pad(torch.tensor(pair).swapaxes(1, 2), (edge, edge + rest))
                .flatten(0, 1),
                n_fft=window,
                hop_length=window // 4,
                window=torch.hann_window(window, dtype=torch.float64),
                center=False,
                return_complex=True,
            )  # fmt: skip
            energy = torch.hann_window(window, dtype=torch.float64).square().sum()
            mels = torch.einsum("xfn,fm->xmn", spectra.abs() / energy.sqrt(), filters)
            logs = mels.clamp(min=1e-5).log10().unflatten(0, (2, channels))
            distances.append((logs[0] - logs[1]).abs().mean().item())
        value = metrics.mel_distance(*pair, sample_rate)
        self.assertAlmostEqual(value, np.mean(distances), places=10)

    def test_a_factor_of_ten_is_one(self):
        reference = normal((48000, 2), scale=1.0)
        self.assertEqual(metrics.mel_distance(reference, reference, 48000), 0.0)
        self.assertEqual(metrics.mel_distance(reference, -reference, 48000), 0.0)
        for louder in (10.0, 0.1):
            value = metrics.mel_distance(reference, louder * reference, 48000)
            self.assertAlmostEqual(value, 1.0, places=3)  # the floor touches the lowest bins

    def test_below_the_floor_is_silence(self):
        quiet, silence = normal((4800, 1), scale=1e-7), np.zeros((4800, 1))
        self.assertEqual(metrics.mel_distance(quiet, silence, 24000), 0.0)
        self.assertGreater(metrics.mel_distance(1e5 * quiet, silence, 24000), 2.0)

    def test_blocks_do_not_matter(self):
        reference, estimate = normal((30000, 2)), normal((30000, 2), 1, 0.01)
        expected = metrics.mel_distance(reference, estimate, 24000)
        with mock.patch.object(metrics, "_BLOCK", 3000):
            value = metrics.mel_distance(reference, estimate, 24000)
        self.assertAlmostEqual(value, expected, places=12)

    def test_grows_with_noise(self):
        reference = clip("speech_reading", 24000)
        noise = normal(len(reference), scale=1.0)
        values = [metrics.mel_distance(reference, reference + s * noise, 24000) for s in SCALES]
        self.assertEqual(values, sorted(values))
        self.assertGreater(values[0], 0.0)


class LogSpectralDistanceTest(parameterized.TestCase):
    @parameterized.parameters(2048, 64)
    def test_by_hand(self, window):
        """Frame by frame, with an explicit discrete Fourier transform."""
        reference, estimate = normal((150, 2), 0), normal((150, 2), 1)
        hop = window // 4
        time = np.arange(window)
        hann = 0.5 * (1 - np.cos(2 * np.pi * time / window))
        turns = np.exp(-2j * np.pi * np.outer(time, np.arange(window // 2 + 1)) / window)
        distances = []
        for start in range(hop - window, 150, hop):
            for channel in range(2):
                levels = []
                for signal in (reference, estimate):
                    inside = (time + start >= 0) & (time + start < 150)
                    frame = np.zeros(window)
                    frame[inside] = signal[(time + start)[inside], channel]
                    power = np.abs((frame * hann) @ turns) ** 2 / np.sum(hann**2)
                    levels.append(10 * np.log10(np.maximum(power, 1e-10)))
                distances.append(np.sqrt(np.mean((levels[0] - levels[1]) ** 2)))
        value = metrics.log_spectral_distance(reference, estimate, 24000, window)
        self.assertAlmostEqual(value, np.mean(distances), places=9)

    def test_volume_in_decibels(self):
        sound = normal(24000)
        self.assertEqual(metrics.log_spectral_distance(sound, sound, 24000), 0)
        value = metrics.log_spectral_distance(sound, 0.5 * sound, 24000)
        self.assertAlmostEqual(value, 20 * np.log10(2), places=6)

    def test_silence(self):
        sound, silence = normal(24000), np.zeros(24000)
        self.assertEqual(metrics.log_spectral_distance(silence, silence, 24000), 0)
        self.assertEqual(metrics.log_spectral_distance(silence, 1e-9 * sound, 24000), 0)
        self.assertBetween(metrics.log_spectral_distance(sound, silence, 24000), 60, 100)
        self.assertGreater(metrics.log_spectral_distance(sound[:1], silence[:1], 24000), 0)
