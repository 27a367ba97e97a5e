"""Spectrograms against PyTorch and transformers, losses against plain numpy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
import torch
from absl.testing import parameterized

from encodec_hk.sound import spectra
from encodec_hk.training import reconstruction
from encodec_hk.training import spectrogram

RATE = 8000
SETTINGS = {"sample_rate": RATE, "windows": (32, 64), "num_mels": 16}


def draw(seed, *shape):
    return (0.3 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


class StftTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(
        # Samples, window: whole hops, and not; one window alone.
        (1024, 64),
        (1000, 64),
        (1023, 64),
        (64, 64),
        (79, 64),
        (501, 32),
        (300, 4),
    )
    def test_equals_pytorch(self, samples, window):
        audio = draw(samples, 2, samples, 2)
        hann = torch.hann_window(window)
        expected = torch.stft(
            torch.from_numpy(audio).transpose(1, 2).reshape(4, samples),
            n_fft=window,
            hop_length=window // 4,
            window=hann,
            center=False,
            return_complex=True,
        )
        expected = (expected / hann.square().sum().sqrt()).transpose(1, 2).numpy()
        frames = (samples - window) // (window // 4) + 1
        ours = self.variant(lambda audio: spectrogram.stft(audio, window))(audio)
        chex.assert_shape(ours, (2, 2, frames, window // 2 + 1))
        chex.assert_type(ours, jnp.complex64)
        np.testing.assert_allclose(ours.reshape(expected.shape), expected, atol=2e-6)

    def test_channels_are_apart(self):
        audio = draw(0, 1, 256, 2)
        both = spectrogram.stft(audio, 64)
        for channel in range(2):
            alone = spectrogram.stft(audio[..., channel : channel + 1], 64)
            np.testing.assert_array_equal(both[:, channel], alone[:, 0])

    @parameterized.parameters((63, 64), (100, 30), (100, 128), (0, 4))
    def test_wrong_windows(self, samples, window):
        message = f"window_length: got {window} for {samples} samples, must be a multiple of 4"
        with self.assertRaisesRegex(ValueError, message):
            spectrogram.stft(jnp.zeros((1, samples, 1)), window)


class PowerTest(chex.TestCase):
    @parameterized.parameters(
        # Samples, window, channels: whole hops, and not; one window alone.
        (1024, 64, 1),
        (1023, 64, 2),
        (64, 64, 1),
        (501, 32, 1),
        (300, 4, 1),
    )
    def test_value_and_gradient_are_those_of_the_stft(self, samples, window, channels):
        def plain(audio):
            z = spectrogram.stft(audio, window)
            return jnp.square(z.real) + jnp.square(z.imag)

        audio = draw(samples, 2, samples, channels)
        expected, pull = jax.vjp(plain, audio)
        found, pull_ours = jax.vjp(lambda audio: spectrogram.power(audio, window), audio)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
        upstream = draw(1, *expected.shape)
        np.testing.assert_allclose(pull_ours(upstream)[0], pull(upstream)[0], atol=2e-6)


class TimeTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_pre_emphasis_equals_scipy(self):
        audio = draw(0, 3, 100, 2)
        ours = self.variant(reconstruction.pre_emphasize)(audio, 0.9)
        expected = scipy.signal.lfilter([1, -0.9], [1], audio, axis=1)
        np.testing.assert_allclose(ours, expected, atol=1e-6)
        np.testing.assert_array_equal(reconstruction.pre_emphasize(audio, 0.0), audio)

    def test_by_hand(self):
        audio = jnp.array([[[0.5], [-1.0]], [[0.0], [0.25]]])
        output = jnp.array([[[0.0], [1.0]], [[-0.125], [0.5]]])
        self.assertAlmostEqual(float(reconstruction.time_l1(audio, output)), 2.875 / 4)
        self.assertAlmostEqual(float(reconstruction.time_l2(audio, output)), 4.328125 / 4)
        of_l1 = jax.grad(reconstruction.time_l1, 1)(audio, output)
        of_l2 = jax.grad(reconstruction.time_l2, 1)(audio, output)
        np.testing.assert_allclose(of_l1.ravel(), [-0.25, 0.25, -0.25, 0.25])
        np.testing.assert_allclose(of_l2.ravel(), [-0.25, 1.0, -0.0625, 0.125])

    @parameterized.parameters(reconstruction.time_l1, reconstruction.time_l2)
    def test_shapes_are_equal(self, loss):
        with self.assertRaises(AssertionError):
            loss(jnp.zeros((2, 8, 1)), jnp.zeros((2, 8)))  # which would broadcast


@jax.jit
def mel(audio, output):
    return reconstruction.multi_scale_mel(audio, output, **SETTINGS)


mel_gradients = jax.jit(jax.value_and_grad(mel, (0, 1)))


def numpy_mel(audio, output, rate, window, num_mels, exponent=None, floor=1e-5):
    """One window of the loss in float64, frame by frame and band by band."""
    hann = np.hanning(window + 1)[:-1]
    hann /= np.sqrt(np.sum(hann**2))
    filters = spectra.mel_filters(rate, window, num_mels)
    absolute, squares, count = 0.0, 0.0, 0
    for signal, other in zip(audio, output, strict=True):
        for channel in range(signal.shape[1]):
            for start in range(0, len(signal) - window + 1, window // 4):
                pair = []
                for samples in (signal, other):
                    part = samples[start : start + window, channel].astype(np.float64)
                    pair.append(np.abs(np.fft.rfft(part * hann)) ** 2 @ filters)
                if exponent is None:
                    absolute += np.sum(np.abs(pair[0] - pair[1]))
                    first, second = (np.log10(floor + power) for power in pair)
                elif exponent == 0:
                    first, second = (np.log10(floor + power) for power in pair)
                    absolute += np.sum(np.abs(first - second))
                else:
                    first, second = ((floor + power) ** exponent for power in pair)
                    absolute += np.sum(np.abs(first - second))
                squares += np.sum((first - second) ** 2)
                count += num_mels
    return (absolute + squares) / count


class MelTest(chex.TestCase):
    @parameterized.parameters(
        # Rate, window, bands, channels; the last two have bands without a bin.
        (RATE, 64, 8, 1),
        (RATE, 64, 8, 2),
        (24000, 32, 64, 1),
        (RATE, 32, 40, 2),
    )
    def test_equals_numpy(self, rate, window, num_mels, channels):
        audio, output = draw(0, 2, 203, channels), draw(1, 2, 203, channels)
        found = reconstruction.multi_scale_mel(
            audio, output, sample_rate=rate, windows=(window,), num_mels=num_mels
        )
        expected = numpy_mel(audio, output, rate, window, num_mels)
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    @parameterized.parameters((None, 1e-3), (0.15, 1e-6), (0.5, 1e-2), (0, 1e-3))
    def test_exponent_and_floor(self, exponent, floor):
        audio, output = draw(0, 2, 203, 1), draw(1, 2, 203, 1)
        both = {"exponent": exponent, "floor": floor}
        found = reconstruction.multi_scale_mel(
            audio, output, sample_rate=RATE, windows=(64,), num_mels=8, **both
        )
        np.testing.assert_allclose(found, numpy_mel(audio, output, RATE, 64, 8, **both), rtol=1e-5)

    def test_exponent_weighs_bands_more_evenly(self):
        """The gradient of a signal too quiet by half, and of one 40 dB louder that is so too."""
        audio = draw(0, 2, 200, 1) / 0.3

        def ratio(**compression):
            norms = [
                jnp.linalg.norm(
                    jax.grad(reconstruction.multi_scale_mel, 1)(
                        level * audio, 0.5 * level * audio, floor=1e-12, **SETTINGS, **compression
                    )
                )
                for level in (1e-3, 1e-1)
            ]
            return float(norms[1] / norms[0])

        # Linear in the difference, A^(2 p - 1), to quadratic, A^(4 p - 1).
        self.assertBetween(ratio(exponent=0.15), 100 ** (0.3 - 1), 100 ** (0.6 - 1))
        self.assertLess(ratio(), 0.03)

    def test_silence_has_a_finite_gradient_with_an_exponent(self):
        for scale in (0.0, 1e-30, 1.0):
            gradient = jax.grad(reconstruction.multi_scale_mel, 1)(
                draw(0, 2, 200, 1), scale * draw(1, 2, 200, 1), exponent=0.15, **SETTINGS
            )
            chex.assert_tree_all_finite(gradient)

    def test_is_the_mean_over_windows(self):
        audio, output = draw(0, 2, 200, 1), draw(1, 2, 200, 1)
        expected = np.mean([numpy_mel(audio, output, RATE, window, 16) for window in (32, 64)])
        np.testing.assert_allclose(mel(audio, output), expected, rtol=1e-5)

    def test_each_window_has_its_bands(self):
        audio, output = draw(0, 2, 200, 1), draw(1, 2, 200, 1)
        found = reconstruction.multi_scale_mel(
            audio, output, sample_rate=RATE, windows=(32, 64), num_mels=(8, 16)
        )
        expected = [numpy_mel(audio, output, RATE, *each) for each in ((32, 8), (64, 16))]
        np.testing.assert_allclose(found, np.mean(expected), rtol=1e-5)

    def test_equal_signals(self):
        audio = draw(0, 2, 200, 1)
        value, gradient = mel_gradients(audio, audio)
        self.assertLess(float(value), 1e-12)
        chex.assert_tree_all_finite(gradient)

    def test_is_symmetric(self):
        audio, output = draw(0, 2, 200, 1), draw(1, 2, 200, 1)
        np.testing.assert_allclose(mel(audio, output), mel(output, audio), rtol=1e-6)

    @parameterized.product(audio=[0.0, 1.0], output=[0.0, 1e-30, 1e-8, 1.0, 1e4])
    def test_silence_and_noise_have_finite_gradients(self, audio, output):
        value, gradient = mel_gradients(audio * draw(0, 2, 200, 1), output * draw(1, 2, 200, 1))
        chex.assert_tree_all_finite((value, gradient))
        if audio and output >= 1:
            self.assertGreater(float(jnp.abs(gradient[1]).max()), 0)

    @parameterized.parameters(0.25, 0.5, 2.0)
    def test_feels_the_volume(self, factor):
        """All powers are those of the audio, times the square of the factor."""
        audio = draw(0, 2, 200, 1)
        filters = spectra.mel_filters(RATE, 64, 8)
        power = np.mean(np.abs(spectrogram.stft(audio, 64)) ** 2 @ filters)
        found = reconstruction.multi_scale_mel(
            audio, factor * audio, sample_rate=RATE, windows=(64,), num_mels=8
        )
        expected = abs(1 - factor**2) * power + np.log10(factor**2) ** 2
        np.testing.assert_allclose(found, expected, rtol=1e-3)

    def test_does_not_hear_what_is_under_the_floor(self):
        """Against silence: 80 dB below full scale is nothing, 40 dB below is not."""
        quiet = draw(0, 2, 200, 1) / 0.3
        self.assertLess(float(mel(0 * quiet, 1e-4 * quiet)), 1e-4)
        self.assertGreater(float(mel(0 * quiet, 1e-2 * quiet)), 0.1)

    def test_does_not_feel_polarity(self):
        audio = draw(0, 2, 200, 1)
        np.testing.assert_allclose(mel(audio, -audio), 0, atol=1e-10)

    def test_gradient_equals_differences(self):
        audio, output = draw(0, 2, 200, 1), draw(1, 2, 200, 1)
        gradient = np.asarray(mel_gradients(audio, output)[1][1])[0, :, 0]
        for sample in (5, 90, 199):
            ends = []
            for step in (1e-5, -1e-5):
                moved = output.astype(np.float64)
                moved[0, sample] += step
                ends.append(np.mean([numpy_mel(audio, moved, RATE, w, 16) for w in (32, 64)]))
            difference = (ends[0] - ends[1]) / 2e-5
            self.assertAlmostEqual(gradient[sample], difference, delta=2e-4 * abs(gradient).max())


class LogMagnitudeTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_its_definition(self):
        audio, output = draw(0, 2, 500, 2), draw(1, 2, 500, 2)
        floor = 1e-3
        expected = []
        for window in (32, 128):
            levels = [
                np.log10(
                    np.sqrt(np.abs(spectrogram.stft(x, window).astype(np.complex128)) ** 2 + floor)
                )
                for x in (audio, output)
            ]
            expected.append(np.abs(levels[0] - levels[1]).mean())
        found = self.variant(
            lambda x, y: reconstruction.multi_scale_stft(x, y, windows=(32, 128), floor=floor)
        )(audio, output)
        np.testing.assert_allclose(found, np.mean(expected), rtol=1e-5)

    def test_feels_the_volume_and_not_the_polarity(self):
        audio = draw(0, 2, 500, 1)
        for factor, expected in ((0.1, 1.0), (-10.0, 1.0), (-1.0, 0.0)):
            found = reconstruction.multi_scale_stft(
                audio, factor * audio, windows=(64,), floor=1e-12
            )
            self.assertAlmostEqual(float(found), expected, places=4)

    def test_silence_has_a_finite_gradient(self):
        for scale in (0.0, 1e-30, 1.0):
            gradient = jax.grad(reconstruction.multi_scale_stft, 1)(
                draw(0, 2, 200, 1), scale * draw(1, 2, 200, 1), windows=(64,)
            )
            chex.assert_tree_all_finite(gradient)
