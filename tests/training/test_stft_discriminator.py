"""The discriminator against Meta's, and its convolution against the plain one."""

import importlib
import sys
import types
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl.testing import parameterized

from encodec_hk.training import stft_discriminator
from tests import references

WINDOWS = (256, 128)
SAMPLES = 1330  # no whole number of hops


class _Spectrogram(torch.nn.Module):
    """torchaudio's `Spectrogram` of `normalized=True` and `power=None`, by its documentation."""

    def __init__(self, n_fft, hop_length, win_length, window_fn, normalized, center, **_):
        super().__init__()
        assert normalized
        assert not center
        self.sizes = {"n_fft": n_fft, "hop_length": hop_length, "win_length": win_length}
        self.register_buffer("window", window_fn(win_length, dtype=torch.float64))

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        options = {"window": self.window, "center": False, "return_complex": True}
        z = torch.stft(rows, **self.sizes, **options) / self.window.square().sum().sqrt()
        return z.reshape(*x.shape[:-1], *z.shape[1:])


def official(num_filters, slope):
    """Meta's discriminator with plain weights, all of them random.

    In float64: rounding that takes a value over the kink of the LeakyReLU is a jump of gradients.
    """
    references.import_encodec()
    stub = types.ModuleType("torchaudio")
    stub.transforms = types.SimpleNamespace(Spectrogram=_Spectrogram)
    with mock.patch.dict(sys.modules, {"torchaudio": stub}), torch.random.fork_rng():
        torch.manual_seed(0)
        network = importlib.import_module("encodec.msstftd").MultiScaleSTFTDiscriminator(
            filters=num_filters,
            n_ffts=WINDOWS,
            win_lengths=WINDOWS,
            hop_lengths=[window // 4 for window in WINDOWS],
            activation_params={"negative_slope": slope},
            norm="none",
        )
    return network.double()


def convolutions(network):
    """The convolutions of Meta's discriminator by the names that ours have."""
    return {
        f"stft_{window}/conv_{index}": layer.conv
        for window, scale in zip(WINDOWS, network.discriminators, strict=True)
        for index, layer in enumerate([*scale.convs, scale.conv_post])
    }


def to_ours(weight):
    """A weight [out, in, frames, bins] as [frames, bins, in, out]."""
    return weight.detach().numpy().transpose(2, 3, 1, 0).astype(np.float32)


def params_of(network):
    return {
        name: {"w": to_ours(layer.weight), "b": layer.bias.detach().float().numpy()}
        for name, layer in convolutions(network).items()
    }


def draw(network):
    """Parameters, faster than by `init`, which takes long to compile."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: rng.uniform(-0.2, 0.2, leaf.shape).astype(leaf.dtype), shapes)


def close(ours, theirs, tolerance=1e-5):
    """Equal to a part of the largest value."""
    chex.assert_equal_shape([ours, theirs])
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


class DiscriminatorTest(parameterized.TestCase):
    @parameterized.product(channels=[1, 2], num_filters=[4, 12])
    def test_equals_official(self, channels, num_filters):
        slope = 0.2 if channels == 1 else 0.3
        network = official(num_filters, slope)
        rng = np.random.default_rng(0)
        audio = 0.3 * rng.standard_normal((3, SAMPLES, channels)).astype(np.float32)
        # Meta's takes mono alone here: channels become items.
        rows = torch.tensor(audio.swapaxes(1, 2).reshape(-1, 1, SAMPLES), dtype=torch.float64)
        rows.requires_grad_()
        theirs = list(zip(*network(rows), strict=True))
        ours = stft_discriminator.build(
            channels=channels, num_filters=num_filters, windows=WINDOWS, slope=slope
        )
        judgements, pull = jax.vjp(jax.jit(ours.apply), params_of(network), audio)

        self.assertLen(judgements, len(WINDOWS))
        cotangents, total = [], torch.zeros((), dtype=torch.float64)
        for judgement, (logits, features) in zip(judgements, theirs, strict=True):
            self.assertLen(judgement.features, len(features))
            mine = [judgement.logits, *judgement.features]
            seeds = []
            for one, other in zip(mine, [logits, *features], strict=True):
                close(one, other.detach().numpy().transpose(0, 2, 3, 1))
                seeds.append(rng.standard_normal(one.shape).astype(np.float32))
                total = total + (other * torch.tensor(seeds[-1].transpose(0, 3, 1, 2))).sum()
            cotangents.append(stft_discriminator.Judgement(jnp.array(seeds[0]), seeds[1:]))
        total.backward()
        params_gradient, audio_gradient = pull(cotangents)
        close(audio_gradient, rows.grad.numpy().reshape(3, channels, SAMPLES).swapaxes(1, 2))
        for name, layer in convolutions(network).items():
            close(params_gradient[name]["w"], to_ours(layer.weight.grad))
            close(params_gradient[name]["b"], layer.bias.grad.numpy())

    def test_params_are_those_of_official_at_full_size(self):
        network = stft_discriminator.build(num_filters=32, windows=WINDOWS)
        params = jax.eval_shape(network.init, jax.random.key(0))
        chex.assert_trees_all_equal_shapes_and_dtypes(params, params_of(official(32, 0.2)))

    def test_params_are_drawn_as_official_draws_them(self):
        network = stft_discriminator.build(num_filters=16, windows=(64,))
        params = jax.jit(network.init)(jax.random.key(0))
        for module, leaves in params.items():
            limit = np.prod(leaves["w"].shape[:3]) ** -0.5
            for leaf in leaves.values():
                self.assertLessEqual(float(jnp.abs(leaf).max()), limit)
            self.assertGreater(float(jnp.abs(leaves["w"]).max()), 0.9 * limit, module)
            mean = float(jnp.mean(leaves["w"]))
            self.assertLess(abs(mean), 4 * limit / (3 * leaves["w"].size) ** 0.5, module)

    def test_init_that_keeps_the_variance(self):
        """Of sound, through every layer; by default it all but vanishes."""
        audio = 0.1 * np.random.default_rng(0).standard_normal((4, SAMPLES, 1)).astype(np.float32)
        spread = {}
        for init in stft_discriminator.INITS:
            network = stft_discriminator.build(num_filters=16, windows=(64,), init=init)
            params = jax.jit(network.init)(jax.random.key(0))
            (scale,) = jax.jit(network.apply)(params, audio)
            spread[init] = [float(jnp.std(x[:, 4:-4])) for x in (*scale.features, scale.logits)]
            if init == "he":
                self.assertFalse(any(np.any(leaves["b"]) for leaves in params.values()))
        for deviation in spread["he"]:
            self.assertBetween(deviation, 0.3, 2)
        self.assertLess(spread["pytorch"][-1], 0.01)

    def test_channels_are_judged_alone(self):
        rng = np.random.default_rng(1)
        audio = rng.standard_normal((2, SAMPLES, 2)).astype(np.float32)
        mono, stereo = (
            stft_discriminator.build(channels=channels, num_filters=4, windows=(128,))
            for channels in (1, 2)
        )
        params = draw(stereo)
        (both,) = jax.jit(stereo.apply)(params, audio)
        for channel in range(2):
            (one,) = jax.jit(mono.apply)(params, audio[..., channel : channel + 1])
            chex.assert_trees_all_close(
                jax.tree.map(lambda leaf, at=channel: leaf[at::2], both), one, atol=1e-6
            )

    def test_equal_arguments_give_the_same_functions(self):
        one = stft_discriminator.build(channels=2, num_filters=4, windows=[64, 128])
        self.assertIs(one, stft_discriminator.build(channels=2, num_filters=4, windows=(64, 128)))

    @parameterized.parameters(
        ({"windows": ()}, "windows"),
        ({"windows": (64, 64)}, "windows"),
        ({"channels": 0}, "channels"),
        ({"num_filters": 0}, "num_filters"),
        ({"init": "zeros"}, "init"),
    )
    def test_wrong_arguments(self, arguments, name):
        with self.assertRaisesRegex(ValueError, f"^{name}: got "):
            stft_discriminator.build(**arguments)

    def test_wrong_audio(self):
        network = stft_discriminator.build(channels=1, num_filters=4, windows=(128, 64))
        params = draw(network)
        with self.assertRaisesRegex(ValueError, "window_length: got 128 for 127 samples"):
            network.apply(params, jnp.zeros((1, 127, 1)))
        with self.assertRaises(AssertionError):
            network.apply(params, jnp.zeros((1, 256, 2)))


class ConvTest(parameterized.TestCase):
    @parameterized.product(
        bins=[7, 16], stride=[1, 2, 3], features=[1, 8, 9], kernel=[3, 9], dilation=[2]
    )
    def test_equals_the_plain_form(self, bins, stride, features, kernel, dilation):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((2, 5, bins, 3)).astype(np.float32)
        w = rng.standard_normal((3, kernel, 3, features)).astype(np.float32)
        theirs = torch.nn.functional.conv2d(
            torch.tensor(x.transpose(0, 3, 1, 2)),
            torch.tensor(w.transpose(3, 2, 0, 1)),
            stride=(1, stride),
            dilation=(dilation, 1),
            padding=(dilation, kernel // 2),
        )
        ours = stft_discriminator.conv(x, w, stride=stride, dilation=dilation)
        close(ours, theirs.numpy().transpose(0, 2, 3, 1))
