"""Gradients written by hand, and forms rewritten for speed, against what they stand for."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from encodec_hk import config
from encodec_hk.networks import activation
from encodec_hk.networks import kernels
from encodec_hk.networks import lstm
from encodec_hk.networks import model
from tests import random_networks

FRAMES, ROWS, WIDTH = 12, 3, 5


class EluTest(chex.TestCase):
    X = np.float32(
        [-np.inf, -1e4, -100, -20, -17, -3, -0.5, -1e-3, -1e-30, -0.0, 0, 1e-30, 1e-3, 0.5, 20, 1e4]
    )

    @chex.variants(with_jit=True, without_jit=True)
    def test_value_is_that_of_jax(self):
        random = np.random.default_rng(0).standard_normal(999).astype(np.float32)
        x = np.concatenate([self.X, 5 * random])
        y = self.variant(activation.elu)(x)
        # One rounding of 1.0 beside expm1.
        np.testing.assert_allclose(y, self.variant(jax.nn.elu)(x), rtol=0, atol=1.2e-7)
        np.testing.assert_allclose(y, np.where(x > 0, x, np.expm1(np.minimum(x, 0))), atol=1.2e-7)

    @chex.variants(with_jit=True, without_jit=True)
    def test_gradient_is_that_of_jax(self):
        x = np.concatenate([self.X, np.linspace(-9, 9, 999, dtype=np.float32)])
        upstream = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)

        def gradient(function):
            return self.variant(jax.grad(lambda x: jnp.sum(function(x) * upstream)))(x)

        ours = gradient(activation.elu)
        np.testing.assert_allclose(ours, gradient(jax.nn.elu), rtol=1e-6, atol=1e-7)
        expected = upstream * np.exp(np.minimum(x, 0).astype(np.float64))
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
        chex.assert_tree_all_finite(ours)

    def test_keeps_the_type(self):
        x = jnp.asarray([-2.0, 3.0], jnp.bfloat16)
        y, pull = jax.vjp(activation.elu, x)
        chex.assert_type([y, *pull(y)], jnp.bfloat16)


def _plain(gates, inside, w_h, state):
    y, last, _ = lstm._scan(gates, inside, w_h, state)
    return y, last


class RecurrenceTest(chex.TestCase):
    """The gradient of the LSTM's recurrence against that of the scan it stands for."""

    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)

        def draw(*shape):
            return rng.standard_normal(shape)

        self.inputs = (
            2 * draw(FRAMES, ROWS, 4 * WIDTH),
            draw(WIDTH, 4 * WIDTH),
            (draw(ROWS, WIDTH), draw(ROWS, WIDTH)),
        )
        # Of the outputs: every h, also of frames outside, and the last h and c.
        self.upstream = draw(FRAMES, ROWS, WIDTH), (draw(ROWS, WIDTH), draw(ROWS, WIDTH))

    def gradients(self, recur, inside, dtype):
        def run(gates, w_h, state):
            return recur(gates, inside, w_h, state)

        inputs, upstream = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, dtype), (self.inputs, self.upstream)
        )

        def pull(inputs, upstream):
            outputs, back = jax.vjp(run, *inputs)
            return outputs, back(upstream)

        return jax.jit(pull)(inputs, upstream)

    @parameterized.named_parameters(
        ("all_inside", 0, (FRAMES, FRAMES, FRAMES)),
        ("rows_end_early", 0, (FRAMES, 7, 1)),
        ("a_row_that_is_empty", 0, (FRAMES, 5, 0)),
        ("rows_that_start_late", 4, (FRAMES, 9, 6)),
    )
    def test_equals_autodiff(self, start, ends):
        frames = np.arange(FRAMES)[:, None, None]
        inside = jnp.asarray((frames >= start) & (frames < np.array(ends)[:, None]))

        values, ours = self.gradients(lstm._recur, inside, jnp.float32)
        expected_values, expected = self.gradients(_plain, inside, jnp.float32)
        chex.assert_trees_all_equal(values, expected_values)
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            scale = float(jnp.abs(other).max())
            self.assertGreater(scale, 0)
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * scale)

    def test_equals_autodiff_in_float64(self):
        inside = np.arange(FRAMES)[:, None, None] < np.array([FRAMES, 7, 0])[:, None]
        with jax.enable_x64(True):
            _, ours = self.gradients(lstm._recur, jnp.asarray(inside), jnp.float64)
            _, expected = self.gradients(_plain, jnp.asarray(inside), jnp.float64)
            chex.assert_type(jax.tree.leaves(ours), jnp.float64)
            chex.assert_trees_all_close(ours, expected, rtol=1e-11, atol=1e-12)

    def test_an_empty_row_hands_its_state_through(self):
        """Its last h and c are those before, apart from what its (unused) outputs say of them."""
        self.upstream = (np.zeros((FRAMES, ROWS, WIDTH)), self.upstream[1])
        inside = jnp.zeros((FRAMES, ROWS, 1), bool)
        (_, last), (gates, w_h, state) = self.gradients(lstm._recur, inside, jnp.float32)
        chex.assert_trees_all_equal(last, jax.tree.map(jnp.float32, self.inputs[2]))
        chex.assert_trees_all_equal(state, jax.tree.map(jnp.float32, self.upstream[1]))
        self.assertFalse(np.any(gates) or np.any(w_h))


class ConvolutionTest(chex.TestCase):
    """`conv`, which folds strides into channels, against a strided convolution."""

    @parameterized.parameters(
        # Kernel, stride, steps, dilation: whole strides, and steps that are not.
        (4, 2, 12, 1),
        (4, 2, 13, 1),
        (10, 5, 34, 1),
        (16, 8, 47, 1),
        (9, 3, 29, 1),
        (5, 5, 24, 1),
        (4, 2, 5, 1),
        (1, 1, 13, 1),  # a product
        # Those that stay as they are.
        (5, 2, 13, 1),
        (7, 1, 13, 1),
        (3, 1, 13, 4),
        (4, 2, 17, 3),
    )
    def test_equals_the_strided_form(self, kernel, stride, steps, dilation):
        rng = np.random.default_rng(kernel * steps)
        x = rng.standard_normal((2, steps, 3)).astype(np.float32)
        w = rng.standard_normal((kernel, 3, 4)).astype(np.float32)

        def strided(x, w):
            return jax.lax.conv_general_dilated(
                x,
                w,
                window_strides=(stride,),
                padding="VALID",
                rhs_dilation=(dilation,),
                dimension_numbers=("NWC", "WIO", "NWC"),
                precision=jax.lax.Precision.HIGHEST,
            )

        def ours(x, w):
            return kernels.convolution("cpu", "float32")(x, w, stride=stride, dilation=dilation)

        frames = (steps - (kernel - 1) * dilation - 1) // stride + 1
        upstream = rng.standard_normal((2, frames, 4)).astype(np.float32)

        @jax.jit
        def everything(x, w):
            results = []
            for function in (ours, strided):
                y, pull = jax.vjp(function, x, w)
                results.append((y, *pull(upstream)))
            return results

        found, expected = everything(x, w)
        chex.assert_shape(found[0], (2, frames, 4))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5)
        taps = dilation * np.arange(kernel) + stride * np.arange(frames)[:, None]
        by_hand = np.einsum("bfkc,kcd->bfd", x[:, taps].astype(np.float64), w)
        np.testing.assert_allclose(found[0], by_hand, rtol=1e-5, atol=2e-5)

    @parameterized.product(channels=[1, 2], features=[1, 2, 5], kernel=[2, 7])
    def test_gradients_at_the_audio(self, channels, features, kernel):
        rng = np.random.default_rng(kernel)
        for shape in ((kernel, channels, features), (kernel, features, channels)):
            x, w = rng.standard_normal((3, 20, shape[1])), rng.standard_normal(shape)
            upstream = rng.standard_normal((3, 21 - kernel, shape[2]))

            @jax.jit
            def gradients(x, w, upstream):
                convolve = kernels.convolution("cpu", "float32")
                return [
                    jax.vjp(function, x, w)[1](upstream) for function in (convolve, kernels._plain)
                ]

            with jax.enable_x64(True):
                found, expected = gradients(x, w, upstream)
                chex.assert_trees_all_close(found, expected, rtol=1e-9, atol=1e-9)


class NetworkTest(parameterized.TestCase):
    """Gradients of whole networks against differences in float64."""

    @parameterized.named_parameters(
        ("causal", {}),
        (
            "time_group_norm",
            {"causal": False, "norm": "time_group_norm", "segment_seconds": 0.05, "channels": 2},
        ),
        ("zeros_around", {"causal": False, "pad_mode": "constant", "shortcut": "identity"}),
    )
    def test_every_parameter(self, overrides):
        # A residual layer narrows to 2 channels: a norm over one would hide what its bias does.
        model_config = random_networks.small(
            ratios=(3,), latent_dim=4, num_lstm_layers=1, **overrides
        )
        networks = model.build(model_config)
        params = random_networks.random_params(model_config)
        del params["quantizer"]
        rng = np.random.default_rng(0)
        hop, frames = config.hop_length(model_config), 10
        lengths = np.array([frames * hop, 5 * hop - 1])  # one fills the block, one does not
        audio = rng.standard_normal((2, frames * hop, model_config.channels))
        target = np.where(
            np.arange(frames * hop)[:, None] < lengths[:, None, None],
            rng.standard_normal(audio.shape),
            np.nan,  # the padding counts nowhere
        )

        def loss(params):
            is_last = jnp.ones(2, bool)
            _, latents = networks.embed_block(params, None, audio, jnp.asarray(lengths), is_last)
            counts = jnp.asarray(-(-lengths // hop))
            _, output = networks.synthesize_block(params, None, latents, counts, is_last)
            difference = jnp.where(np.isnan(target), 0, output - np.nan_to_num(target))
            return jnp.mean(jnp.square(difference))

        with jax.enable_x64(True):
            params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
            quick = {"xla_backend_optimization_level": 0}  # to compile
            evaluate = jax.jit(jax.value_and_grad(loss), compiler_options=quick)
            _, gradient = evaluate(params)
            step = 1e-5
            for module, leaves in params.items():
                for name, leaf in leaves.items():
                    direction = rng.standard_normal(leaf.shape)
                    direction /= np.linalg.norm(direction)
                    ends = [
                        evaluate({**params, module: {**leaves, name: leaf + move}})[0]
                        for move in (step * direction, -step * direction)
                    ]
                    difference = float(ends[0] - ends[1]) / (2 * step)
                    slope = float(np.sum(gradient[module][name] * direction))
                    where = f"{module} {name}"
                    self.assertGreater(abs(slope), 1e-7, where)
                    self.assertAlmostEqual(slope / difference, 1, delta=1e-5, msg=where)
