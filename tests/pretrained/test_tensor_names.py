"""The table of tensor names, and the conversion of tensors."""

import itertools

import chex
import jax
import numpy as np
import torch
import transformers
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import checkpoint
from encodec_hk.pretrained import source_config
from encodec_hk.pretrained import tensor_names
from encodec_hk.pretrained import weights
from tests import references

VARIANTS = ("encodec_24khz", "encodec_48khz", "encodec_32khz", "encodec_16khz")
NAMINGS = (tensor_names.OFFICIAL, tensor_names.TRANSFORMERS)


def random_params(model, seed=0):
    rng = np.random.default_rng(seed)
    expected = checkpoint.expected_params(model)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), expected)


def sources_of(rows):
    return [source for row in rows for source in row.sources]


class NamesTest(parameterized.TestCase):
    @parameterized.product(name=(*references.TINY, *VARIANTS), naming=NAMINGS)
    def test_fills_every_parameter_once(self, name, naming):
        model = references.tiny(name) if name in references.TINY else references.model_config(name)
        rows = tensor_names.table(model, naming)
        targets = [row.target for row in rows]
        expected = checkpoint.expected_params(model)
        wanted = [f"{module}.{name}" for module, values in expected.items() for name in values]
        self.assertCountEqual(targets, wanted)
        self.assertLen(set(sources_of(rows)), len(sources_of(rows)))

    @parameterized.parameters(*references.TINY)
    def test_names_all_of_official(self, name):
        model = references.tiny(name)
        state = references.official_model(model).state_dict()
        rows = tensor_names.table(model, tensor_names.OFFICIAL)
        ignored = tensor_names.ignored(model, tensor_names.OFFICIAL)
        found = {weights.parse(key)[0] for key in state} - ignored
        self.assertCountEqual(sources_of(rows), found)
        self.assertContainsSubset(ignored, state)
        tensors = weights.to_torch(random_params(model), model, tensor_names.OFFICIAL)
        for source, tensor in tensors.items():
            key = source if source in state else source.replace("weight", "weight_v")
            self.assertEqual(tensor.shape, tuple(state[key].shape), source)

    @parameterized.parameters(
        ("encodec_24khz", 252), ("encodec_48khz", 224), ("encodec_32khz", 116)
    )
    def test_names_all_of_transformers(self, name, count):
        model = references.model_config(name)
        with torch.device("meta"):
            theirs = transformers.EncodecConfig(**source_config.to_transformers(model))
            state = transformers.EncodecModel(theirs).state_dict()
        self.assertEqual(len(state), count)
        rows = tensor_names.table(model, tensor_names.TRANSFORMERS)
        ignored = tensor_names.ignored(model, tensor_names.TRANSFORMERS)
        found = {weights.parse(key)[0] for key in state} - ignored
        self.assertCountEqual(sources_of(rows), found)

    def test_detect(self):
        for naming in NAMINGS:
            keys = sources_of(tensor_names.table(references.tiny(), naming))
            self.assertIs(tensor_names.detect(keys), naming)
        self.assertIsNone(
            tensor_names.detect(["emb.0.weight", "transformer.layers.0.norm1.weight"])
        )


class WeightsTest(parameterized.TestCase):
    @parameterized.product(name=tuple(references.TINY), naming=NAMINGS)
    def test_round_trip(self, name, naming):
        model = references.tiny(name)
        params = random_params(model)
        back = weights.to_haiku(weights.to_torch(params, model, naming), model, naming)
        chex.assert_trees_all_equal(back, dict(params))

    @parameterized.product(stride=(1, 2, 3, 8), inputs=(1, 3))
    def test_polyphase_is_the_transposed_convolution(self, stride, inputs):
        outputs, frames = 2, 5
        rng = np.random.default_rng(stride)
        v = rng.standard_normal((inputs, outputs, 2 * stride))
        x = rng.standard_normal((frames, inputs))
        expected = torch.nn.functional.conv_transpose1d(
            torch.from_numpy(x.T[None]), torch.from_numpy(v), stride=stride
        )[0].numpy()
        w = weights.TRANSFORMS["polyphase"].to_haiku([v])
        self.assertEqual(w.shape, (2, inputs, stride * outputs))
        current = np.concatenate([x, np.zeros((1, inputs))])
        previous = np.concatenate([np.zeros((1, inputs)), x])
        y = (previous @ w[0] + current @ w[1]).reshape(-1, outputs).T
        np.testing.assert_allclose(y, expected, atol=1e-12)

    def test_layouts(self):
        value = np.arange(24.0).reshape(2, 3, 4)
        conv = weights.TRANSFORMS["transpose"].to_haiku([value])
        self.assertEqual(conv[3, 1, 0], value[0, 1, 3])
        biases = [np.float32([1, 2]), np.float32([3, 5])]
        np.testing.assert_array_equal(weights.TRANSFORMS["sum"].to_haiku(biases), [4, 7])

    @parameterized.product(
        module=(torch.nn.Conv1d, torch.nn.ConvTranspose1d),
        spelling=("weight_{}", "parametrizations.weight.{}"),
    )
    def test_folds_weight_norm(self, module, spelling):
        torch.manual_seed(0)
        layer = module(5, 3, 4)
        with torch.no_grad():
            layer.weight.mul_(1e3)
            torch.nn.utils.parametrizations.weight_norm(layer)
            layer.parametrizations.weight.original0.mul_(torch.rand(layer.weight.shape[0], 1, 1))
        parts = layer.parametrizations.weight
        g, v = ("g", "v") if "_" in spelling else ("original0", "original1")
        tensors = {
            f"a.{spelling.format(g)}": parts.original0.detach().numpy(),
            f"a.{spelling.format(v)}": parts.original1.detach().numpy(),
            "a.bias": layer.bias.detach().numpy(),
        }
        folded = weights.fold_weight_norm(tensors)
        self.assertCountEqual(folded, ["a.weight", "a.bias"])
        self.assertEqual(folded["a.weight"].dtype, np.float32)
        np.testing.assert_allclose(folded["a.weight"], layer.weight.detach().numpy(), rtol=3e-7)

    @parameterized.parameters(
        {"a.weight_v": (3, 2, 1)},
        {"a.weight_g": (3, 1, 1)},
        {"a.weight_g": (2, 1, 1), "a.weight_v": (3, 2, 1)},
        {"a.weight_g": (3, 1, 1), "a.weight_v": (3, 2, 1), "a.weight": (3, 2, 1)},
        {"a.weight_g": (3, 1, 1), "a.parametrizations.weight.original0": (3, 1, 1)},
    )
    def test_leaves_what_does_not_pair(self, **shapes):
        tensors = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
        self.assertCountEqual(weights.fold_weight_norm(tensors), tensors)

    @parameterized.parameters(*NAMINGS)
    def test_lists_what_differs(self, naming):
        model = references.tiny()
        tensors = weights.to_torch(random_params(model), model, naming)
        ignored = tensor_names.ignored(model, naming)
        tensors |= dict.fromkeys(ignored, np.zeros(1, np.float32))
        weights.to_haiku(tensors, model, naming)
        sources = sources_of(tensor_names.table(model, naming))
        first, second, third = itertools.islice(sorted(sources), 3)
        expected = [
            f"- {first} {list(tensors.pop(first).shape)}",
            f"- {second} {list(tensors[second].shape)}",
            f"+ {second} [1, 2]",
            f"+ {third}_extra [3]",
        ]
        tensors[second] = np.zeros((1, 2), np.float32)
        tensors[f"{third}_extra"] = np.zeros(3, np.float32)
        with self.assertRaises(ValueError) as context:
            weights.to_haiku(tensors, model, naming)
        self.assertEqual(str(context.exception).split("\n")[1:], expected)


if __name__ == "__main__":
    absltest.main()
