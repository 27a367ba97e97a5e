"""The language model: one result everywhere, and the same as a second implementation."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.language import code_model
from encodec_hk.language import code_params
from encodec_hk.language import integer_arithmetic
from tests.language import numpy_language
from tests.language import random_language

SIZES = random_language.SIZES
PARAMS = random_language.params()
MODEL = code_model.build(SIZES)
# SHA-256 of the frequencies of `random_language`, big-endian int32. They never change: files that
# exist could not be read any more.
GOLDEN = "96976039774c3a837de4ca53aed7885a0a30d89a5b6be7a79f6957800e8089a9"


def stepwise(params, codes, heads):
    """Return the frequencies [B, K, F, V] frame by frame, as a decoder finds them."""
    rows, num_codebooks, num_frames = codes.shape
    past, last = code_model.first_past(SIZES, rows), np.zeros((rows, num_codebooks), np.int32)
    found = []
    for frame in range(num_frames):

        def choose(carry, logits, frame=frame):
            k, seen = carry
            seen = seen.at[:, k].set(integer_arithmetic.frequencies(logits))
            return (k + 1, seen), jnp.asarray(codes)[:, k, frame]

        carry = jnp.int32(0), jnp.zeros((rows, num_codebooks, SIZES.codebook_size), jnp.int32)
        past, last, (_, seen) = MODEL.next_frame(
            params, heads, past, np.int32(frame), last, carry, choose
        )
        np.testing.assert_array_equal(last, codes[:, :, frame])
        found.append(np.asarray(seen))
    return np.stack(found, axis=2)


class CodeModelTest(parameterized.TestCase):
    def test_golden_hash(self):
        codes = random_language.codes(2, 12)
        found = np.asarray(MODEL.all_frequencies(PARAMS, codes))
        self.assertEqual(hashlib.sha256(found.astype(">i4").tobytes()).hexdigest(), GOLDEN)

    @parameterized.parameters(1, 3, 4)
    def test_equals_numpy(self, num_codebooks):
        codes = random_language.codes(1, 11, num_codebooks=num_codebooks)
        oracle = numpy_language.Oracle(PARAMS, SIZES.dilations)
        found = np.asarray(MODEL.all_frequencies(PARAMS, codes))[0]
        np.testing.assert_array_equal(found, oracle.all_frequencies(codes[0]))
        self.assertEqual(set(found.sum(axis=-1).ravel()), {integer_arithmetic.TOTAL})
        self.assertGreater(found.min(), 0)

    def test_sees_the_first_codebooks_of_earlier_frames(self):
        sizes = SIZES._replace(context_codebooks=2)
        params = random_language.params(sizes)
        self.assertLen(params["language"]["tables"], 2)
        codes = random_language.codes(1, 6)
        found = np.asarray(code_model.build(sizes).all_frequencies(params, codes))[0]
        oracle = numpy_language.Oracle(params, sizes.dilations)
        np.testing.assert_array_equal(found, oracle.all_frequencies(codes[0]))
        codes[0, 2:, 3] ^= 1
        changed = np.asarray(code_model.build(sizes).all_frequencies(params, codes))[0]
        np.testing.assert_array_equal(changed[:, 4:], found[:, 4:])

    def test_sixteen_codebooks_take_less_than_4_mb(self):
        sizes = code_model.Sizes(128, 64, (1, 2, 4, 8, 16, 32), 16, 1024, 8)
        leaves = jax.tree.leaves(code_params.shapes(sizes))
        self.assertLess(sum(leaf.size * leaf.dtype.itemsize for leaf in leaves), 3.8e6)

    @parameterized.product(num_codebooks=(1, 3, 4), is_loop=(False, True))
    def test_frames_one_by_one(self, num_codebooks, is_loop):
        codes = random_language.codes(2, 7, num_codebooks=num_codebooks)
        found = np.asarray(MODEL.all_frequencies(PARAMS, codes))
        heads = MODEL.heads(PARAMS, num_codebooks) if is_loop else None
        np.testing.assert_array_equal(found, stepwise(PARAMS, codes, heads))

    def test_batch_and_jit(self):
        codes = random_language.codes(8, 9)
        together = np.asarray(jax.jit(MODEL.all_frequencies)(PARAMS, codes))
        for row in (0, 7):
            alone = np.asarray(MODEL.all_frequencies(PARAMS, codes[row : row + 1]))
            np.testing.assert_array_equal(alone[0], together[row])
        with jax.disable_jit():
            plain = np.asarray(MODEL.all_frequencies(PARAMS, codes[:1, :, :3]))
        np.testing.assert_array_equal(plain[0], together[0, :, :3])

    def test_depends_on_earlier_codes_alone(self):
        codes = random_language.codes(1, 8)
        changed = codes.copy()
        changed[0, 2, 5] ^= 1
        first, second = (
            np.asarray(MODEL.all_frequencies(PARAMS, each))[0] for each in (codes, changed)
        )
        is_equal = (first == second).all(axis=-1)
        self.assertTrue(is_equal[:, :5].all() and is_equal[:3, 5].all())
        self.assertFalse(is_equal[:, 6].all() or is_equal[3:, 5:].all())

    @parameterized.parameters(
        ("w", -128, "head_1_hidden.w: got -128, must be at least -127"),
        ("shift", -1, "head_1_hidden.shift: got -1, must be 0 to 24"),
        ("b", 2**24, r"head_1_hidden: got sums of \d+, must be at most 2\*\*24"),
    )
    def test_checks(self, name, value, message):
        params = {module: dict(values) for module, values in PARAMS.items()}
        wrong = params["head_1_hidden"][name].copy()
        wrong.flat[0] = value
        params["head_1_hidden"][name] = wrong
        with self.assertRaisesRegex(ValueError, message):
            code_params.check(params, SIZES)

    def test_checks_names_and_shapes(self):
        params = {module: dict(values) for module, values in PARAMS.items()}
        del params["layer_1_first"]["b"]
        with self.assertRaisesRegex(ValueError, r"layer_1_first.b: got none, must be int32\[24\]"):
            code_params.check(params, SIZES)

    def test_products_at_the_limit_are_exact(self):
        x = np.full((3, 1040), 127, np.int32)
        w = np.full((1040, 5), 127, np.int8)
        w[1] = -127
        found = np.asarray(integer_arithmetic.product(x, w))
        np.testing.assert_array_equal(found, x.astype(np.int64) @ w.astype(np.int64))

    @parameterized.parameters(2, 1024, 2**14)
    def test_starts_are_exact(self, num_codes):
        """Compares with a division of int64, also where a quotient is whole or nearly so."""
        total = random_language.integers("total", (2000, 1), 1, 2**16 - 1) * num_codes
        shares = random_language.integers("shares", (2000, 8), 0, 2**16 - 1)
        below = total * shares // 2**16
        whole = -(-shares * total // (65536 - num_codes))  # the least for a quotient
        below = np.concatenate([below, whole, whole - 1, 0 * total, total], axis=1)
        below = np.clip(below, 0, total)
        found = integer_arithmetic._starts(
            0, below.astype(np.int32), total.astype(np.int32), num_codes
        )
        np.testing.assert_array_equal(found, below * (65536 - num_codes) // total)

    @parameterized.parameters(2, 32, 64, 1024)
    def test_codes_of_slots(self, num_codes):
        logits = random_language.integers("logits", (3, num_codes), -600, 600).astype(np.int32)
        found = integer_arithmetic.frequencies(logits)
        ends = np.cumsum(np.asarray(found), axis=-1)
        for slot in (0, 1, 700, 32768, 65535):
            code, *interval = integer_arithmetic.code_at(logits, np.full(3, slot, np.int32))
            np.testing.assert_array_equal(code, (ends <= slot).sum(axis=-1))
            for one, two in zip(interval, integer_arithmetic.interval(logits, code), strict=True):
                np.testing.assert_array_equal(one, two)
            own = np.take_along_axis(np.asarray(found), np.asarray(code)[:, None], axis=1)[:, 0]
            np.testing.assert_array_equal(interval[1], own)


if __name__ == "__main__":
    absltest.main()
