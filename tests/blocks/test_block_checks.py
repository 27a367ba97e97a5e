"""The block computation as users call it: what it refuses instead of computing something else."""

import functools
import pathlib
import tempfile

import chex
import jax
import numpy as np
from absl.testing import parameterized

import encodec_hk
from tests import random_networks

HOP = 12
FIRST = 7  # frames that the first block of a row needs if it goes on


@functools.cache
def codec(variant="causal"):
    model_config = random_networks.small(**random_networks.VARIANTS[variant])
    return encodec_hk.Codec(model_config, random_networks.random_params(model_config))


def encode(state=..., audio=..., num_valid=..., is_last=..., num_codebooks=3, own=None):
    own = own or codec()
    given = {
        "state": own.model.encoder_state(2) if state is ... else state,
        "audio": np.zeros((2, 8 * HOP, own.channels), np.float32) if audio is ... else audio,
        "num_valid": np.array([8 * HOP, 7]) if num_valid is ... else num_valid,
        "is_last": np.array([False, True]) if is_last is ... else is_last,
    }
    return own.encode_block(**given, num_codebooks=num_codebooks)


def decode(state=..., codes=..., num_valid=..., is_last=...):
    given = {
        "state": codec().model.decoder_state(2) if state is ... else state,
        "codes": np.zeros((2, 3, 8), np.int32) if codes is ... else codes,
        "num_valid": np.array([8, 1]) if num_valid is ... else num_valid,
        "is_last": np.array([False, True]) if is_last is ... else is_last,
    }
    return codec().decode_block(**given)


def with_value(array, index, value):
    array[index] = value
    return array


class BlockChecksTest(parameterized.TestCase):
    @parameterized.named_parameters(
        ("codebooks", {"num_codebooks": 4}, "num_codebooks: got 4, must be .*1 to 3"),
        ("no_codebooks", {"num_codebooks": 0}, "num_codebooks: got 0"),
        ("int16", {"audio": np.zeros((2, 96, 1), np.int16)}, "audio: got int16, must be float"),
        (
            "int16_on_a_device",
            {"audio": jax.numpy.zeros((2, 96, 1), np.int16)},
            "audio: got int16, must be float",
        ),
        ("channels", {"audio": np.zeros((2, 96, 2))}, r"got shape \(2, 96, 2\), must be \[B, T, 1"),
        ("hop", {"audio": np.zeros((2, 70, 1))}, r"\(2, 70, 1\), must be .* T a multiple of 12$"),
        ("empty", {"audio": np.zeros((2, 0, 1))}, r"audio: got shape \(2, 0, 1\)"),
        (
            "nan",
            {"audio": with_value(np.zeros((2, 96, 1)), (1, 5), np.nan)},
            r"audio\[1\]: got NaN or infinity at sample 5, must be finite",
        ),
        (
            "short_first_block",
            {"num_valid": np.array([72, 7])},
            r"num_valid\[0\]: got 72, must be at least 84 in the first block of a row that goes on",
        ),
        (
            "no_whole_frames",
            {"num_valid": np.array([95, 7])},
            r"num_valid\[0\]: got 95, must be a multiple of 12 in a row that goes on",
        ),
        ("more", {"num_valid": np.array([96, 97])}, r"num_valid\[1\]: got 97, must be 0 to 96"),
        ("fewer", {"num_valid": np.array([96, -1])}, r"num_valid\[1\]: got -1, must be 0 to 96"),
        ("rows", {"num_valid": np.array([96])}, r"num_valid: got int64 of shape \(1,\), must be"),
        ("half", {"num_valid": np.array([96.0, 7.0])}, "num_valid: got float64"),
        ("numbers", {"is_last": np.array([0, 1])}, "is_last: got int64 .*must be bool"),
        ("no_counts", {"num_valid": None}, "num_valid: got None"),
        ("no_ends", {"is_last": None}, "is_last: got None"),
        ("neither", {"num_valid": None, "is_last": None}, "num_valid: got None"),
        ("other_state", {"state": "decoder"}, "state: got another pytree"),
        ("number", {"state": 3}, "state: got another pytree"),
        ("other_rows", {"state": "one_row"}, "state: got 1 rows, the block has 2"),
    )
    def test_encode(self, changes, message):
        states = {
            "decoder": codec().model.decoder_state(2),
            "one_row": codec().model.encoder_state(1),
        }
        if isinstance(changes.get("state"), str):
            changes = {"state": states[changes["state"]]}
        with self.assertRaisesRegex(ValueError, message) as raised:
            encode(**changes)
        self.assertLen(str(raised.exception).splitlines(), 1)

    @parameterized.named_parameters(
        ("code", {"codes": np.full((2, 3, 8), 5000)}, "codes: got 5000, must be 0 to 15"),
        ("negative", {"codes": np.full((2, 3, 8), -1)}, "codes: got -1, must be 0 to 15"),
        ("floats", {"codes": np.zeros((2, 3, 6))}, "codes: got float64"),
        (
            "floats_on_a_device",
            {"codes": jax.numpy.zeros((2, 3, 6))},
            "codes: got float32 .*must be integers",
        ),
        ("codebooks", {"codes": np.zeros((2, 4, 6), int)}, "K from 1 to 3"),
        ("rank", {"codes": np.zeros((3, 6), int)}, r"must be integers \[B, K, F\]"),
        (
            "short_first_block",
            {"num_valid": np.array([6, 1])},
            r"num_valid\[0\]: got 6, must be at least 7 in the first block",
        ),
    )
    def test_decode(self, changes, message):
        with self.assertRaisesRegex(ValueError, message):
            decode(**changes)

    def test_a_variant_that_takes_whole_rows(self):
        own = codec("segmented")
        with self.assertRaisesRegex(ValueError, "state: got one, must be None"):
            encode(own=own, state=codec().model.encoder_state(2))
        encode(own=own, state=None)

    def test_short_blocks_after_the_first_and_at_the_end(self):
        state, _ = encode(num_valid=np.array([FIRST * HOP, 12]), is_last=np.array([False, True]))
        short = np.zeros((2, HOP, 1), np.float32)
        for given in (state, jax.tree.map(np.asarray, state)):  # the second row has not begun
            encode(given, short, np.array([HOP, 0]), np.array([False, False]))
            encode(given, short, np.array([HOP, 5]), np.array([False, True]))

    def test_all_kinds_of_numbers_give_the_same(self):
        rng = np.random.default_rng(0)
        audio = 0.1 * rng.standard_normal((2, 8 * HOP, 1)).astype(np.float32)
        expected = encode(audio=audio)
        for given in (audio.astype(np.float64), jax.numpy.asarray(audio), audio.tolist()):
            chex.assert_trees_all_equal(encode(audio=given), expected)
        ends = {"num_valid": [8 * HOP, 7], "is_last": [False, True]}
        chex.assert_trees_all_equal(encode(audio=audio, **ends), expected)
        codes = expected[1]
        sound = decode(codes=codes)
        for kind in (np.uint8, np.int64):
            chex.assert_trees_all_equal(decode(codes=np.asarray(codes, kind)), sound)

    def test_within_jit(self):
        expected = encode()
        traced = jax.jit(functools.partial(codec().encode_block, num_codebooks=3))
        state = codec().model.encoder_state(2)
        audio, ends = np.zeros((2, 8 * HOP, 1), np.float32), (np.array([96, 7]), np.arange(2) > 0)
        chex.assert_trees_all_equal(traced(state, audio, *ends), expected)
        with self.assertRaisesRegex(ValueError, "audio: got int16"):
            traced(state, audio.astype(np.int16), *ends)

    def test_with_kept_traces(self):
        """Their first block is checked, too, and the second compiles nothing."""
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        model_config = codec().model_config
        own = encodec_hk.Codec(model_config, codec().params, traces_folder=folder)
        with self.assertRaisesRegex(ValueError, "must be at least 84 in the first block"):
            encode(own=own, num_valid=np.array([72, 7]))
        state, _ = encode(own=own)
        encode(state, own=own)
        self.assertEqual(own.encode_rows.func._cache_size(), 1)
