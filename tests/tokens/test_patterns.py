"""Patterns of codes against matrices of the papers, transformers, and their own inverses."""

import types

import hypothesis
import hypothesis.strategies as st
import numpy as np
import torch
import transformers
from absl.testing import absltest
from absl.testing import parameterized
from hypothesis.extra import numpy as arrays

from encodec_hk.tokens import patterns
from encodec_hk.tokens import vocabulary

P = 99  # the token where a codebook has no code


def example(num_codebooks=4, num_frames=4):
    """Codes whose digits are their codebook and their frame."""
    return 10 * np.arange(num_codebooks)[:, None] + np.arange(num_frames)


@st.composite
def codes_of_any_shape(draw, max_value=1023):
    shape = (
        *draw(st.lists(st.integers(1, 2), max_size=2)),
        draw(st.integers(1, 9)),
        draw(st.integers(0, 12)),
    )
    dtype = draw(st.sampled_from([np.int16, np.int32, np.int64, np.uint16]))
    return draw(arrays.arrays(dtype, shape, elements=st.integers(0, max_value)))


class DelayTest(parameterized.TestCase):
    def test_the_delay_pattern_of_musicgen(self):
        # arXiv 2306.05284, figure 1: sequence steps of 4 codebooks.
        np.testing.assert_array_equal(
            patterns.delay(example(), P),
            [
                [0, 1, 2, 3, P, P, P],
                [P, 10, 11, 12, 13, P, P],
                [P, P, 20, 21, 22, 23, P],
                [P, P, P, 30, 31, 32, 33],
            ],
        )

    def test_fewer_frames_than_the_largest_delay(self):
        np.testing.assert_array_equal(
            patterns.delay(example(3, 1), P), [[0, P, P], [P, 10, P], [P, P, 20]]
        )

    def test_delays_of_coarse_first(self):
        # The pattern of VALL-E in MusicGen's section 2.2: the others follow the first codebook.
        np.testing.assert_array_equal(
            patterns.delay(example(3, 2), P, (0, 2, 2)),
            [[0, 1, P, P], [P, P, 10, 11], [P, P, 20, 21]],
        )

    @parameterized.product(num_codebooks=(4, 8), num_frames=(7, 20), stereo=(False, True))
    def test_equal_to_transformers(self, num_codebooks, num_frames, stereo):
        rng = np.random.default_rng(0)
        channels = 2 if stereo else 1
        codes = rng.integers(0, 2048, (2, channels, num_codebooks, num_frames))
        rows = patterns.interleave(codes)
        delays = tuple(row // channels for row in range(rows.shape[1]))
        ours = patterns.delay(rows, 2048, delays)
        ours = np.concatenate([np.full((*ours.shape[:2], 1), 2048), ours], axis=-1)
        model = types.SimpleNamespace(
            num_codebooks=rows.shape[1],
            config=types.SimpleNamespace(audio_channels=channels),
            generation_config=None,
        )
        start = np.full((*rows.shape[:2], 1), 2048)
        prompt = torch.from_numpy(np.concatenate([start, rows], axis=-1))
        _, theirs = transformers.MusicgenForCausalLM.build_delay_pattern_mask(
            model, prompt.flatten(0, 1), 2048, max_length=1 + num_frames + num_codebooks - 1
        )
        np.testing.assert_array_equal(ours, theirs.numpy().reshape(ours.shape))

    @hypothesis.given(codes_of_any_shape(), st.data())
    def test_undelay_undoes_delay(self, codes, data):
        delays = None
        if data.draw(st.booleans()):
            count = codes.shape[-2]
            delays = data.draw(st.lists(st.integers(0, 20), min_size=count, max_size=count))
        delayed = patterns.delay(codes, 1024, delays)
        self.assertEqual(delayed.dtype, codes.dtype)
        self.assertEqual(np.sum(delayed != 1024), codes.size)
        found, mask = patterns.undelay(delayed, 1024, delays)
        np.testing.assert_array_equal(found, codes)
        self.assertEqual(found.dtype, codes.dtype)
        self.assertTrue(mask.all())

    def test_a_sequence_that_is_still_generated(self):
        delayed = patterns.delay(example(), P)[:, :5]
        codes, mask = patterns.undelay(delayed, P)
        np.testing.assert_array_equal(codes, example()[:, :2])
        self.assertTrue(mask.all())
        codes, mask = patterns.undelay(delayed, P, num_frames=5)
        expected = [[0, 1, 2, 3, P], [10, 11, 12, 13, P], [20, 21, 22, P, P], [30, 31, P, P, P]]
        np.testing.assert_array_equal(codes, expected)
        np.testing.assert_array_equal(mask, np.array(expected) != P)

    def test_padding_at_the_end_is_masked(self):
        batch = np.full((2, 2, 6), P)
        batch[0], batch[1, :, :3] = example(2, 6), example(2, 3)
        codes, mask = patterns.undelay(patterns.delay(batch, P), P)
        np.testing.assert_array_equal(codes, batch)
        np.testing.assert_array_equal(mask.sum(-1), [[6, 6], [3, 3]])

    @parameterized.parameters(
        (np.ones((2, 3)), {}, r"codes: got float64, must be integers \[..., K, F\]"),
        (np.ones(3, int), {}, r"codes: got shape \[3\], must be \[..., K, F\]"),
        (np.ones((0, 3), int), {}, r"codes: got shape \[0, 3\], must be"),
        (np.ones((2, 3), int), {"delays": (0,)}, "delays: got .0., must be 2 numbers of at least"),
        (np.ones((2, 3), int), {"delays": (0, -1)}, "delays: got .0, -1., must be 2 numbers"),
        (np.ones((2, 3), np.int8), {"pad": 1024}, "pad: got 1024, must be a value of int8"),
    )
    def test_errors_of_delay(self, codes, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            patterns.delay(codes, **{"pad": 0, **arguments})

    @parameterized.parameters(
        (2, {}, "steps of delayed: got 2, must be at least 3"),
        (5, {"num_frames": 6}, "num_frames: got 6, must be 0 to 5"),
        (5, {"num_frames": -1}, "num_frames: got -1, must be 0 to 5"),
        (5, {"delays": (0, 0)}, "delays: got .0, 0., must be 4 numbers"),
    )
    def test_errors_of_undelay(self, num_steps, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            patterns.undelay(np.zeros((4, num_steps), int), P, **arguments)


class FlattenTest(parameterized.TestCase):
    @parameterized.parameters(
        # AudioLM and MusicLM: row-major over frames, each level with tokens of its own.
        ("frame", 0, [0, 110, 220, 1, 111, 221]),
        ("frame", 1000, [1000, 1110, 1220, 1001, 1111, 1221]),
        ("frame", None, [0, 10, 20, 1, 11, 21]),
        # Coarse first.
        ("codebook", 0, [0, 1, 110, 111, 220, 221]),
        ("codebook", None, [0, 1, 10, 11, 20, 21]),
    )
    def test_golden(self, order, offset, expected):
        tokens = patterns.flatten(example(3, 2), 100, order, offset)
        np.testing.assert_array_equal(tokens, expected)

    @hypothesis.given(
        codes_of_any_shape(),
        st.sampled_from(patterns.ORDERS),
        st.one_of(st.none(), st.sampled_from([0, 1, 32000, 2**31])),
    )
    def test_unflatten_undoes_flatten(self, codes, order, offset):
        tokens = patterns.flatten(codes, 1024, order, offset)
        self.assertEqual(tokens.shape, (*codes.shape[:-2], codes.shape[-2] * codes.shape[-1]))
        if offset is not None:
            self.assertEqual(tokens.dtype, np.int64 if offset == 2**31 else np.int32)
        found = patterns.unflatten(tokens, 1024, codes.shape[-2], order, offset)
        np.testing.assert_array_equal(found, codes)

    def test_a_codebook_is_not_taken_for_another(self):
        tokens = patterns.flatten(example(3, 2), 100)
        with self.assertRaisesRegex(ValueError, "tokens of codebook 0: got 110, must be 0 to 99"):
            patterns.unflatten(np.roll(tokens, -1), 100, 3)

    @parameterized.parameters(
        ([[100]], {}, "codes: got 100, must be 0 to 99"),
        ([[-1]], {}, "codes: got -1, must be 0 to 99"),
        ([[1]], {"order": "time"}, "order: got 'time', must be one of frame, codebook"),
        ([[1]], {"offset": -1}, "offset: got -1, must be None or at least 0"),
        ([[1]], {"codebook_size": 0}, "codebook_size: got 0, must be at least 1"),
    )
    def test_errors_of_flatten(self, codes, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            patterns.flatten(np.array(codes), **{"codebook_size": 100, **arguments})

    @parameterized.parameters(
        (7, 3, r"number of tokens: got 7, must be a multiple of num_codebooks \(3\)"),
        (7, 0, "num_codebooks: got 0, must be at least 1"),
    )
    def test_errors_of_unflatten(self, num_tokens, num_codebooks, message):
        with self.assertRaisesRegex(ValueError, message):
            patterns.unflatten(np.zeros(num_tokens, int), 100, num_codebooks)


class SplitTest(parameterized.TestCase):
    @parameterized.parameters(("VALL-E", 8, 1), ("MusicLM", 12, 4))
    def test_coarse_and_fine(self, paper, num_codebooks, num_coarse):
        del paper
        codes = example(num_codebooks, 5)
        coarse, fine = patterns.split_coarse(codes, num_coarse)
        np.testing.assert_array_equal(coarse, codes[:num_coarse])
        np.testing.assert_array_equal(fine, codes[num_coarse:])

    @parameterized.parameters(0, 5)
    def test_errors(self, num_coarse):
        message = f"num_coarse: got {num_coarse}, must be 1 to 4"
        with self.assertRaisesRegex(ValueError, message):
            patterns.split_coarse(example(), num_coarse)


class InterleaveTest(parameterized.TestCase):
    def test_golden(self):
        left = example(2, 2)
        np.testing.assert_array_equal(
            patterns.interleave(np.stack([left, left + 50])),
            [[0, 1], [50, 51], [10, 11], [60, 61]],
        )

    @hypothesis.given(codes_of_any_shape(), st.integers(1, 3))
    def test_round_trip(self, codes, channels):
        codes = np.stack([codes + channel for channel in range(channels)], axis=-3)
        mixed = patterns.interleave(codes)
        self.assertEqual(mixed.shape[-2], channels * codes.shape[-2])
        np.testing.assert_array_equal(patterns.deinterleave(mixed, channels), codes)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, r"codes: got shape \[4, 4\], must be \[..., C, K"):
            patterns.interleave(example())
        with self.assertRaisesRegex(ValueError, "channels: got 2, must be a divisor of the 3 rows"):
            patterns.deinterleave(example(3))


class VocabularyTest(parameterized.TestCase):
    def test_tokens_follow_each_other(self):
        words = vocabulary.Vocabulary(1024, num_codebooks=2, offset=32000)
        self.assertEqual(words.tokens_of(0), range(32000, 33024))
        self.assertEqual(words.tokens_of(1), range(33024, 34048))
        self.assertEqual([words.token(name) for name in words.special], [34048, 34049, 34050])
        self.assertEqual(words.size, 34051)
        codes = np.array([[0, 1023], [5, 6]])
        tokens = [*patterns.flatten(codes, 1024, offset=words.offset), words.token("eos"), 7]
        np.testing.assert_array_equal(words.is_special(tokens), [0, 0, 0, 0, 1, 0])

    def test_the_vocabulary_of_musicgen(self):
        words = vocabulary.Vocabulary(2048, special=("pad",))
        self.assertEqual((words.token("pad"), words.size), (2048, 2049))

    @parameterized.parameters(
        ({"codebook_size": 0}, "codebook_size: got 0, must be a whole number of at least 1"),
        ({"num_codebooks": 1.5}, "num_codebooks: got 1.5, must be a whole number"),
        ({"offset": -1}, "offset: got -1, must be a whole number of at least 0"),
        ({"special": ("pad", "pad")}, "special: got .*, must be names, each used once"),
    )
    def test_errors(self, fields, message):
        with self.assertRaisesRegex(ValueError, message):
            vocabulary.Vocabulary(**{"codebook_size": 1024, **fields})

    def test_errors_of_names(self):
        words = vocabulary.Vocabulary(1024)
        with self.assertRaisesRegex(ValueError, "special token: got 'sep', must be one of pad, "):
            words.token("sep")
        with self.assertRaisesRegex(ValueError, "codebook: got 1, must be 0 to 0"):
            words.tokens_of(1)


if __name__ == "__main__":
    absltest.main()
