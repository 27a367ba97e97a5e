"""Weight normalisation against PyTorch's, and what it leaves alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl.testing import parameterized

from encodec_hk.pretrained import weights
from encodec_hk.training import stft_discriminator
from encodec_hk.training import weight_norm
from tests import random_networks


def torch_conv():
    layer = torch.nn.Conv1d(3, 5, 7)
    return "encoder/conv_in", layer, "transpose", (1, 1, 5)


def torch_conv_transpose():
    layer = torch.nn.ConvTranspose1d(6, 3, 8, stride=4)
    return "decoder/stage_0/upsample", layer, "polyphase", (1, 6, 1)


LAYERS = {"conv": torch_conv, "conv_transpose": torch_conv_transpose}


def to_ours(tensor, transform):
    """A weight of torch, in our layout."""
    return weights.TRANSFORMS[transform].to_haiku([tensor.detach().numpy()])


class PytorchTest(chex.TestCase):
    @parameterized.parameters(*LAYERS)
    def test_equals_pytorch(self, kind):
        """Norm, direction, weight, and the gradients with respect to norm and direction."""
        torch.manual_seed(0)
        module, layer, transform, norm_shape = LAYERS[kind]()
        torch.nn.utils.parametrizations.weight_norm(layer)
        parts = layer.parametrizations.weight
        with torch.no_grad():  # a norm and a direction that are not those of the first weight
            parts.original0.mul_(torch.rand_like(parts.original0) + 0.5)
            parts.original1.mul_(3.0)
        upstream = torch.randn_like(layer.weight)
        (layer.weight * upstream).sum().backward()

        leaves = {
            "w_g": jnp.asarray(parts.original0.detach().numpy().reshape(norm_shape)),
            "w_v": jnp.asarray(to_ours(parts.original1, transform)),
        }

        def value(leaves):
            w = weight_norm.fold({module: leaves})[module]["w"]
            return jnp.sum(w * to_ours(upstream, transform)), w

        (_, w), gradient = jax.jit(jax.value_and_grad(value, has_aux=True))(leaves)
        np.testing.assert_allclose(w, to_ours(layer.weight, transform), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(
            gradient["w_g"].ravel(), parts.original0.grad.numpy().ravel(), rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(
            gradient["w_v"], to_ours(parts.original1.grad, transform), rtol=1e-4, atol=1e-6
        )
        split = weight_norm.split({module: {"w": w}})[module]
        np.testing.assert_allclose(split["w_g"], leaves["w_g"], rtol=1e-5)

    def test_of_the_discriminator(self):
        """Its weights have two axes of time and frequency, [N, M, C, D]."""
        layer = torch.nn.Conv2d(2, 5, (3, 9))
        w = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
        torch.nn.utils.parametrizations.weight_norm(layer)
        split = weight_norm.split({"stft_64/conv_0": {"w": w, "b": np.zeros(5)}})
        norm = layer.parametrizations.weight.original0.detach().numpy()
        np.testing.assert_allclose(
            split["stft_64/conv_0"]["w_g"], norm.reshape(1, 1, 1, 5), rtol=1e-6
        )


class NetworkTest(chex.TestCase):
    def setUp(self):
        super().setUp()
        self.params = random_networks.random_params(random_networks.small(num_lstm_layers=2))

    @chex.variants(with_jit=True, without_jit=True)
    def test_fold_is_the_inverse_of_split(self):
        def both(params):
            return weight_norm.fold(weight_norm.split(params))

        folded = self.variant(both)(self.params)
        chex.assert_trees_all_equal_shapes_and_dtypes(folded, self.params)
        chex.assert_trees_all_close(folded, self.params, rtol=1e-6, atol=0)

    def test_norms_are_those_of_their_channels(self):
        rng = np.random.default_rng(0)
        split = weight_norm.split(self.params)
        for leaves in split.values():
            if "w_g" in leaves:
                leaves["w_g"] = rng.uniform(0.5, 2.0, leaves["w_g"].shape).astype(np.float32)
        kinds = set()
        for module, leaves in weight_norm.fold(split).items():
            if "w_g" not in split[module]:
                continue
            is_upsample = module.endswith("/upsample")
            kinds.add(is_upsample)
            channels = np.moveaxis(np.asarray(leaves["w"]), 1 if is_upsample else 2, 0)
            norms = np.linalg.norm(channels.reshape(len(channels), -1), axis=1)
            np.testing.assert_allclose(norms, np.ravel(split[module]["w_g"]), rtol=1e-5)
        self.assertEqual(kinds, {False, True})

    def test_the_gradient_of_a_direction_is_orthogonal_to_it(self):
        split = weight_norm.split(self.params)
        rng = np.random.default_rng(0)
        upstream = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), self.params)

        def value(split):
            folded = weight_norm.fold(split)
            return sum(map(jnp.vdot, jax.tree.leaves(folded), jax.tree.leaves(upstream)))

        for module, gradient in jax.jit(jax.grad(value))(split).items():
            if "w_v" not in gradient:
                continue
            kept = 1 if module.endswith("/upsample") else 2
            axes = tuple({0, 1, 2} - {kept})
            v, dv = split[module]["w_v"], gradient["w_v"]
            along = np.sum(v * dv, axis=axes)
            lengths = np.sqrt(np.sum(v**2, axis=axes) * np.sum(dv**2, axis=axes))
            self.assertLess(float(np.max(np.abs(along) / lengths)), 1e-5, module)
            np.testing.assert_allclose(
                gradient["w_g"],
                np.sum(upstream[module]["w"] * v, axis=axes, keepdims=True) / split[module]["w_g"],
                rtol=1e-4,
                atol=1e-5,
            )

    def test_all_but_convolutions_stay(self):
        params = dict(self.params)
        params["encoder/conv_in/norm"] = {"scale": np.ones(4), "offset": np.zeros(4)}
        split = weight_norm.split(params)
        changed = set()
        for module, leaves in params.items():
            if "w" in leaves:
                changed.add(module)
                self.assertEqual(set(split[module]), {"w_g", "w_v", "b"})
                self.assertIs(split[module]["b"], leaves["b"])
            else:
                self.assertEqual(set(split[module]), set(leaves))
                for name, leaf in leaves.items():
                    self.assertIs(split[module][name], leaf)
        self.assertEqual(set(params), set(split))
        left = set(params) - changed
        for expected in ("encoder/lstm/layer_0", "encoder/conv_in/norm", "quantizer"):
            self.assertIn(expected, left)
        for expected in ("encoder/conv_in", "decoder/stage_0/upsample"):
            self.assertIn(expected, changed)
        self.assertIn("w", params["encoder/conv_in"])  # what was given is as it was

    def test_of_a_whole_discriminator(self):
        network = stft_discriminator.build(num_filters=2, windows=(32,))
        shapes = jax.eval_shape(network.init, jax.random.key(0))
        rng = np.random.default_rng(0)
        params = jax.tree.map(lambda leaf: np.float32(rng.standard_normal(leaf.shape)), shapes)
        split = weight_norm.split(params)
        self.assertTrue(all(set(leaves) == {"w_g", "w_v", "b"} for leaves in split.values()))
        chex.assert_trees_all_close(weight_norm.fold(split), params, rtol=1e-6)

    @parameterized.parameters("encoder/conv_in", "decoder/stage_0/upsample")
    def test_a_weight_of_zeros(self, module):
        """As pruned filters have: they stay, and can learn."""
        w = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
        w[:, 1, :] = 0
        w[:, :, 1] = 0
        split = weight_norm.split({module: {"w": w}})
        np.testing.assert_allclose(weight_norm.fold(split)[module]["w"], w, rtol=1e-6)
        gradient = jax.grad(lambda split: jnp.sum(weight_norm.fold(split)[module]["w"]))(split)
        chex.assert_tree_all_finite(gradient)
        self.assertTrue(np.all(np.asarray(gradient[module]["w_g"]) != 0))
