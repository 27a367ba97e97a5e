"""The block computation: structure, causality, and that blocks do not show in what comes out."""

import json
import os
import pathlib

import chex
import jax
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from configs import encodec_16khz
from configs import encodec_24khz
from configs import encodec_24khz_small
from configs import encodec_32khz
from configs import encodec_48khz
from configs import encodec_tiny
from configs import vocos_encodec_24khz
from encodec_hk import config
from encodec_hk.networks import model
from encodec_hk.networks import quantizer
from encodec_hk.networks import reach
from tests import compilation
from tests import random_networks

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "params.json"
REGENERATE = "REGENERATE=1 python -m pytest tests/networks/test_model.py -k golden"
VARIANTS = (
    encodec_16khz,
    encodec_24khz,
    encodec_24khz_small,
    encodec_32khz,
    encodec_48khz,
    encodec_tiny,
    vocos_encodec_24khz,
)


class Blocks:
    """A network, and rows run through it in blocks of given sizes, noise after their ends."""

    def __init__(self, model_config, *, decode=False):
        self.model = model.build(model_config)
        self.params = random_networks.random_params(model_config)
        self.channels = model_config.channels
        self.entries = model_config.codebook_size
        self.decodes = decode
        self.hop = 1 if decode else config.hop_length(model_config)
        self.gain = config.hop_length(model_config) if decode else 1
        self.lag = reach.lags(model_config)[decode]
        self.block = jax.jit(self.model.decode_block if decode else self.model.embed_block)
        self.start = self.model.decoder_state if decode else self.model.encoder_state

    def draw(self, rng, length):
        if self.decodes:
            return rng.integers(0, self.entries, (length, 3)).astype(np.int32)
        return rng.standard_normal((length, self.channels)).astype(np.float32)

    def outputs_of(self, row):
        return -(-len(row) // self.hop) * self.gain

    def whole(self, row):
        """A row alone and whole; always in a block of one size, to be compiled once."""
        return self.run([row], [50 * self.hop], whole=True)[0]

    def run(self, rows, sizes, *, whole=False):
        """Rows cut into blocks of sizes (the last one repeats), or whole in one block."""
        rng = np.random.default_rng(99)
        state, outputs = None if whole else self.start(len(rows)), []
        lag = 0 if whole else self.lag
        start, steps = 0, iter(sizes)
        size = next(steps)
        longest = max(map(len, rows)) + -(-lag // self.gain) * self.hop
        while start < longest:
            parts = [row[start : start + size] for row in rows]
            counts = np.array([len(part) for part in parts], np.int32)
            ends = np.array([len(row) - start <= size for row in rows])
            block = np.stack([self.draw(rng, size) for _ in rows])
            for values, part in zip(block, parts, strict=True):
                values[: len(part)] = part
            if self.decodes:
                block = block.swapaxes(1, 2)
            state, y = self.block(self.params, state, block, counts, ends)
            outputs.append(np.asarray(y))
            start += size
            size = next(steps, size)
        joined = np.concatenate(outputs, axis=1)[:, lag:]
        return [output[: self.outputs_of(row)] for output, row in zip(joined, rows, strict=True)]


class GoldenTest(parameterized.TestCase):
    def test_golden_parameters(self):
        """Paths and shapes of every variant's parameters, made without weights."""
        found = {}
        for variant in VARIANTS:
            whole = variant.get_config()
            params = jax.eval_shape(model.build(whole.model).init, jax.random.key(0))
            found[whole.name] = {
                f"{path}.{name}": str(list(value.shape))
                for path, values in sorted(params.items())
                for name, value in values.items()
            }
        if os.environ.get("REGENERATE"):
            GOLDEN.parent.mkdir(exist_ok=True)
            GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        expected = json.loads(GOLDEN.read_text())
        self.assertEqual(found, expected, f"if the change is meant: {REGENERATE}")


class InitialTest(parameterized.TestCase):
    @pytest.mark.slow
    def test_a_signal_stays_alive(self):
        """Through all layers of a network with fresh weights, or training has nothing to go by."""
        networks = model.build(random_networks.small(num_filters=8))

        @jax.jit
        def run(key, audio):
            params = networks.init(key)
            _, latents = networks.embed_block(params, None, audio, None, None)
            return latents, networks.synthesize_block(params, None, latents, None, None)[1]

        audio = 0.3 * np.random.default_rng(0).standard_normal((2, 1200, 1)).astype(np.float32)
        latents, output = run(jax.random.key(0), audio)
        for x in (latents, output):
            spread = np.std(x, axis=1)
            self.assertBetween(spread.mean(), 0.1, 1)
            self.assertLess(np.abs(np.mean(x, axis=1)).mean(), spread.mean())


class CausalBlocksTest(chex.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.encoder, cls.decoder = (
            Blocks(random_networks.small()),
            Blocks(random_networks.small(), decode=True),
        )

    @parameterized.parameters(
        ((600,), {}),
        ((84, 12), {}),
        ((120, 24, 36), {"pad_mode": "constant"}),
        ((84, 12), {"num_residual_layers": 3, "shortcut": "identity"}),
        ((96,), {"num_lstm_layers": 0, "channels": 2}),
    )
    @pytest.mark.few(0, 1, 2)
    def test_blocks_and_batches_equal_rows_alone(self, sizes, overrides):
        model_config = random_networks.small(**overrides)
        encoder = Blocks(model_config)
        first = reach.minimum_first_blocks(model_config)[0] * encoder.hop
        sizes = (max(first, sizes[0]), *sizes[1:])
        rng = np.random.default_rng(0)
        rows = [encoder.draw(rng, n) for n in (1, 2, 5, 11, 12, 13, 83, 84, 85, 95, 96, 97, 400)]
        for found, row in zip(encoder.run(rows, sizes), rows, strict=True):
            chex.assert_shape(found, (-(-len(row) // encoder.hop), model_config.latent_dim))
            expected = encoder.whole(row)
            np.testing.assert_allclose(found, expected, atol=5e-6 * np.abs(expected).max())

    @pytest.mark.slow
    @settings(max_examples=10)
    @given(
        cuts=st.lists(st.sampled_from([1, 5]), max_size=4),
        first=st.just(7),
        lengths=st.lists(st.integers(1, 300), min_size=3, max_size=3),
    )
    def test_any_cut(self, cuts, first, lengths):
        for blocks in (self.encoder, self.decoder):
            rng = np.random.default_rng(1)
            counts = lengths if blocks is self.encoder else [-(-n // 12) for n in lengths]
            rows = [blocks.draw(rng, n) for n in counts]
            found = blocks.run(rows, [size * blocks.hop for size in (first, *cuts)])
            for output, row in zip(found, rows, strict=True):
                expected = blocks.whole(row)
                np.testing.assert_allclose(output, expected, atol=5e-6 * np.abs(expected).max())

    def test_other_rows_change_no_bit(self):
        self.enter_context(compilation.normal())
        encoder = Blocks(random_networks.small())
        rng = np.random.default_rng(2)
        row = encoder.draw(rng, 300)
        outputs = []
        for scale in (1.0, 1e6, np.nan):
            others = [scale * encoder.draw(rng, length) for length in (300, 17)]
            outputs.append(encoder.run([others[0], row, others[1]], [96])[1])
        np.testing.assert_array_equal(outputs[0], outputs[1])
        np.testing.assert_array_equal(outputs[0], outputs[2])

    def test_a_place_starts_afresh_after_a_row(self):
        """A row in a place where another has ended, while its neighbour goes on."""
        rng = np.random.default_rng(3)
        blocks = self.encoder
        first, second, neighbour = (blocks.draw(rng, n) for n in (100, 90, 192))
        state = blocks.start(2)
        parts = ([first[:96], neighbour[:96]], [first[96:], neighbour[96:180]])
        for block in (*parts, [second, neighbour[180:]]):
            x = np.zeros((2, 96, 1), np.float32)
            for values, part in zip(x, block, strict=True):
                values[: len(part)] = part
            counts = np.array([len(part) for part in block])
            ends = np.array([counts[0] < 96, counts[1] < 84])
            state, y = blocks.block(blocks.params, state, x, counts, ends)
        np.testing.assert_allclose(y[0, :8], blocks.whole(second), atol=1e-5)
        np.testing.assert_array_equal(state["start"], 0)

    def test_a_start_as_far_back_as_is_counted(self):
        """Past 2**29 steps, the start is no longer counted back; nothing depends on it."""
        for blocks in (self.encoder, self.decoder):
            rng = np.random.default_rng(6)
            size = 8 * blocks.hop
            row = blocks.draw(rng, 2 * size - 1)
            parts = [row[:size], np.concatenate([row[size:], blocks.draw(rng, 1)])]
            parts = [part[None].swapaxes(1, 2) if blocks.decodes else part[None] for part in parts]
            size = np.array([size])
            no, yes = np.array([False]), np.array([True])
            state, _ = blocks.block(blocks.params, blocks.start(1), parts[0], size, no)
            far = {**state, "start": np.array([-(2**29) // blocks.hop * blocks.hop], np.int32)}
            _, y = blocks.block(blocks.params, state, parts[1], size - 1, yes)
            _, far_y = blocks.block(blocks.params, far, parts[1], size - 1, yes)
            np.testing.assert_array_equal(y, far_y)

    def test_idle_rows_keep_their_state(self):
        blocks = self.encoder
        x = np.ones((2, 96, 1), np.float32)
        no = np.zeros(2, bool)
        state, _ = blocks.block(blocks.params, blocks.start(2), x, np.array([96, 96]), no)
        after, _ = blocks.block(blocks.params, state, -x, np.array([0, 0]), no)
        chex.assert_trees_all_equal(state, after)

    def test_the_future_changes_nothing(self):
        """Codes up to a frame do not depend on samples after it."""
        rng = np.random.default_rng(4)
        row = self.encoder.draw(rng, 600)
        other = row.copy()
        other[360:] = self.encoder.draw(rng, 240)
        one, two = self.encoder.whole(row), self.encoder.whole(other)
        np.testing.assert_array_equal(one[:30], two[:30])
        self.assertGreater(np.abs(one[30:] - two[30:]).max(), 1e-3)

    def test_one_compilation_for_all_lengths(self):
        chex.clear_trace_counter()
        blocks = Blocks(random_networks.small())
        counted = chex.assert_max_traces(blocks.model.embed_block, n=1)
        blocks.block = jax.jit(counted)
        rng = np.random.default_rng(5)
        for lengths in ([1, 500], [96, 97], [12, 300]):
            blocks.run([blocks.draw(rng, n) for n in lengths], [96])


class LookAheadTest(chex.TestCase):
    """Networks that are not causal: whole rows, and streams that lag."""

    @parameterized.parameters(
        {"norm": "time_group_norm", "channels": 2},
        {"shortcut": "identity", "pad_mode": "constant"},
        {"num_residual_layers": 2},
    )
    @pytest.mark.few(0)
    def test_whole_rows_in_a_batch_equal_rows_alone(self, **overrides):
        model_config = random_networks.small(causal=False, **overrides)
        rng = np.random.default_rng(0)
        for blocks in (Blocks(model_config), Blocks(model_config, decode=True)):
            counts = np.array([1, 2, 5, 11, 12, 13, 85, 96])
            rows = [blocks.draw(rng, -(-n // 12) if blocks.decodes else n) for n in counts]
            found = blocks.run(rows, [96], whole=True)
            for output, row in zip(found, rows, strict=True):
                expected = blocks.whole(row)
                np.testing.assert_allclose(output, expected, atol=1e-5 * np.abs(expected).max())

    @parameterized.parameters(
        ((50,), {}),
        ((10, 2, 3), {"shortcut": "identity", "pad_mode": "constant"}),
        ((1,), {}),
        ((8,), {"num_residual_layers": 3, "ratios": (4, 3), "kernel_size": 5}),
        ((7, 1), {"num_lstm_layers": 0, "channels": 2, "ratios": (2, 5), "last_kernel_size": 3}),
    )
    @pytest.mark.few(0)
    def test_blocks_equal_whole_rows(self, sizes, overrides):
        model_config = random_networks.small(causal=False, **overrides)
        rng = np.random.default_rng(1)
        for blocks in (Blocks(model_config), Blocks(model_config, decode=True)):
            hop = config.hop_length(model_config)
            counts = (1, 2, 5, 11, 12, 13, 84, 85, 97, 300)
            rows = [blocks.draw(rng, -(-n // hop) if blocks.decodes else n) for n in counts]
            found = blocks.run(rows, [size * blocks.hop for size in sizes])
            for output, row in zip(found, rows, strict=True):
                expected = blocks.whole(row)
                self.assertEqual(output.shape, expected.shape)
                np.testing.assert_allclose(output, expected, atol=1e-5 * np.abs(expected).max())

    @parameterized.product(causal=[True, False], decode=[True, False])
    def test_a_place_starts_afresh_when_all_is_out(self, causal, decode):
        blocks = Blocks(random_networks.small(causal=causal), decode=decode)
        rng = np.random.default_rng(2)
        size = 8 * blocks.hop
        state, outputs = blocks.start(1), []
        rows = [blocks.draw(rng, n * blocks.hop) for n in (13, 1, 9)]
        for row in rows:
            outputs.append([])
            for start in range(0, len(row) + -(-blocks.lag // blocks.gain) * blocks.hop, size):
                part = row[start : start + size]
                block = blocks.draw(rng, size)[None]
                block[0, : len(part)] = part
                block = block.swapaxes(1, 2) if decode else block
                ends = np.array([start + size >= len(row)])
                count = np.array([len(part)], np.int32)
                state, y = blocks.block(blocks.params, state, block, count, ends)
                outputs[-1].append(y[0])
            np.testing.assert_array_equal(state["start"], 0)
        for row, output in zip(rows, outputs, strict=True):
            expected = blocks.whole(row)
            found = np.concatenate(output)[blocks.lag :][: len(expected)]
            np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())

    def test_normalised_networks_take_whole_rows_alone(self):
        networks = model.build(random_networks.small(causal=False, norm="time_group_norm"))
        self.assertIsNone(networks.encoder_state(2))
        self.assertIsNone(networks.decoder_state(2))


class FullRowsTest(parameterized.TestCase):
    """Rows that fill their block, as crops do in training, have a shorter way to the same."""

    @parameterized.product(
        model_config=(
            {},
            {"causal": False, "shortcut": "identity", "pad_mode": "constant"},
            {"causal": False, "norm": "time_group_norm", "channels": 2},
        ),
        frames=(1, 9),
    )
    @pytest.mark.few(0, 2, 4)
    def test_computes_what_rows_of_that_length_do(self, model_config, frames):
        model_config = random_networks.small(**model_config)
        networks, params = model.build(model_config), random_networks.random_params(model_config)
        rng = np.random.default_rng(0)
        audio = rng.standard_normal((2, 12 * frames, model_config.channels)).astype(np.float32)
        latents = rng.standard_normal((2, frames, model_config.latent_dim)).astype(np.float32)
        for block, x in ((networks.embed_block, audio), (networks.synthesize_block, latents)):
            block = jax.jit(block)
            counts = np.full(2, x.shape[1])
            _, expected = block(params, None, x, counts, counts > 0)
            state, found = block(params, None, x, None, None)
            self.assertIsNone(state)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

    def test_synthesize_is_decode_from_latents(self):
        model_config = random_networks.small()
        networks, params = model.build(model_config), random_networks.random_params(model_config)
        codes = np.random.default_rng(0).integers(0, 16, (2, 3, 9)).astype(np.int32)
        counts, is_last = np.array([9, 4]), np.array([True, True])
        latents = quantizer.decode(params["quantizer"]["codebooks"], codes)
        _, expected = jax.jit(networks.decode_block)(params, None, codes, counts, is_last)
        _, found = jax.jit(networks.synthesize_block)(params, None, latents, counts, is_last)
        np.testing.assert_array_equal(found, expected)
