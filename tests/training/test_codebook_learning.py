"""Training of the quantiser against plain numpy, on one and on eight devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from encodec_hk.networks import quantizer
from encodec_hk.training import codebook_learning
from tests import compilation

ITEMS, FRAMES, DIM, ENTRIES, CODEBOOKS = 4, 32, 6, 8, 3
VECTORS = ITEMS * FRAMES


def draw_latents(seed, items=ITEMS):
    """Latents [B, F, D] around a few centres, so that codebooks have something to find."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((2 * ENTRIES, DIM))
    spread = 0.3 * rng.standard_normal((items, FRAMES, DIM))
    return (centres[rng.integers(0, len(centres), (items, FRAMES))] + spread).astype(np.float32)


def draw_entries(seed):
    scale = 0.6 ** np.arange(CODEBOOKS)[:, None, None]
    entries = scale * np.random.default_rng(seed).standard_normal((CODEBOOKS, ENTRIES, DIM))
    return entries.astype(np.float32)


def squared_distances(vectors, means):
    """[V, N], in float64."""
    differences = vectors[:, None].astype(np.float64) - means
    return np.sum(differences**2, axis=-1)


def lloyd(vectors, means, iterations):
    """Plain k-means; a mean without vectors stays where it is."""
    means = means.astype(np.float64)
    for _ in range(iterations):
        nearest = squared_distances(vectors, means).argmin(axis=1)
        for index in range(len(means)):
            if np.any(nearest == index):
                means[index] = vectors[nearest == index].mean(axis=0)
    return means


def stage_inputs(entries, codes, latents):
    """What each stage is given, [K, V, D], and what the last one leaves, in float64."""
    residual = latents.reshape(-1, latents.shape[-1]).astype(np.float64)
    inputs = []
    for book, chosen in zip(entries, np.moveaxis(codes, 1, 0), strict=True):
        inputs.append(residual)
        residual = residual - book[np.ravel(chosen)]
    return np.array(inputs), residual


@functools.partial(jax.jit, static_argnames=("num_codebooks", "codebook_size", "iterations"))
def k_means(latents, key, num_codebooks=CODEBOOKS, codebook_size=ENTRIES, iterations=10):
    return codebook_learning.k_means(
        latents,
        key,
        num_codebooks=num_codebooks,
        codebook_size=codebook_size,
        iterations=iterations,
    )


update = jax.jit(codebook_learning.update)
encode = jax.jit(quantizer.encode)


class KMeansTest(parameterized.TestCase):
    @parameterized.parameters(0, 1, 2, 7)
    def test_equals_lloyd(self, iterations):
        latents, key = draw_latents(1), jax.random.key(3)
        vectors = latents.reshape(-1, DIM)
        first = np.asarray(k_means(latents, key, 1, iterations=0).entries[0])
        drawn = squared_distances(vectors, first).argmin(axis=0)
        np.testing.assert_array_equal(first, vectors[drawn])
        self.assertLen(set(drawn), ENTRIES)
        found = k_means(latents, key, 1, iterations=iterations)
        expected = lloyd(vectors, first, iterations)
        np.testing.assert_allclose(found.entries[0], expected, rtol=1e-5, atol=1e-5)
        nearest = squared_distances(vectors, expected).argmin(axis=1)
        np.testing.assert_array_equal(found.counts[0], np.bincount(nearest, minlength=ENTRIES))

    def test_every_stage_is_the_k_means_of_what_is_left(self):
        latents = draw_latents(1)
        found = jax.tree.map(np.asarray, k_means(latents, jax.random.key(3), iterations=60))
        codes = encode(found.entries, latents)
        inputs, rest = stage_inputs(found.entries, codes, latents)
        for stage, vectors in enumerate(inputs):
            # Long converged: another iteration changes nothing.
            book = found.entries[stage]
            np.testing.assert_allclose(lloyd(vectors, book, 1), book, rtol=1e-4, atol=1e-5)
            used = np.bincount(np.ravel(codes[:, stage]), minlength=ENTRIES)
            np.testing.assert_array_equal(found.counts[stage], used)
        sums = found.entries * found.counts[..., None]
        np.testing.assert_allclose(found.sums, sums, rtol=1e-6)
        energies = [np.sum(vectors**2) for vectors in (*inputs, rest)]
        self.assertLess(max(np.divide(energies[1:], energies[:-1])), 0.9)

    def test_the_key_decides(self):
        latents = draw_latents(1)
        one, same, other = (k_means(latents, jax.random.key(seed)) for seed in (1, 1, 2))
        chex.assert_trees_all_equal(one, same)
        self.assertGreater(float(jnp.abs(one.entries - other.entries).max()), 0.1)

    def test_more_entries_than_vectors(self):
        latents = draw_latents(1)[:1, :5]
        found = k_means(latents, jax.random.key(0), num_codebooks=2, codebook_size=16)
        chex.assert_tree_all_finite(found)
        chex.assert_shape(found.entries, (2, 16, DIM))
        # Every vector is an entry, the others repeat them and are not used.
        apart = squared_distances(np.asarray(found.entries[0]), latents[0])
        np.testing.assert_allclose(apart.min(axis=0), np.zeros(5), atol=1e-10)
        np.testing.assert_allclose(apart.min(axis=1), np.zeros(16), atol=1e-10)
        np.testing.assert_array_equal(np.sort(found.counts[0])[-6:], [0, 1, 1, 1, 1, 1])
        quantized = quantizer.decode(found.entries, encode(found.entries, latents))
        np.testing.assert_allclose(quantized, latents, atol=1e-5)
        # Those not used are restarted by the first update.
        codes = encode(found.entries, latents)
        after, usage = update(
            found, latents, codes, jax.random.key(1), decay=0.9, restart_below=0.1
        )
        self.assertAlmostEqual(float(usage.dead[0]), 11 / 16)
        chex.assert_tree_all_finite(after)


class UpdateTest(parameterized.TestCase):
    def test_start_is_equal_use(self):
        entries = draw_entries(0)
        state = codebook_learning.start(jnp.asarray(entries), VECTORS)
        np.testing.assert_array_equal(state.entries, entries)
        np.testing.assert_array_equal(state.counts, np.full((CODEBOOKS, ENTRIES), 16.0))
        np.testing.assert_array_equal(state.sums, 16 * entries)

    @parameterized.parameters(0.0, 0.5, 0.99)
    def test_equals_numpy_over_steps(self, decay):
        state = codebook_learning.start(jnp.asarray(draw_entries(0)), VECTORS)
        entries, counts, sums = (np.asarray(part, np.float64) for part in state)
        for step in range(6):
            latents = draw_latents(step)
            codes = np.asarray(encode(state.entries, latents))
            state, usage = update(
                state, latents, codes, jax.random.key(step), decay=decay, restart_below=0.0
            )
            inputs, _ = stage_inputs(entries, codes, latents)
            for k in range(CODEBOOKS):
                for n in range(ENTRIES):
                    hits = inputs[k][np.ravel(codes[:, k]) == n]
                    counts[k, n] = decay * counts[k, n] + (1 - decay) * len(hits)
                    sums[k, n] = decay * sums[k, n] + (1 - decay) * hits.sum(axis=0)
                total = counts[k].sum()
                smoothed = (counts[k] + 1e-5) / (total + ENTRIES * 1e-5) * total
                entries[k] = sums[k] / smoothed[:, None]
                share = counts[k][counts[k] > 0] / total
                perplexity = np.exp(-np.sum(share * np.log(share)))
                np.testing.assert_allclose(usage.perplexity[k], perplexity, rtol=1e-5)
            np.testing.assert_array_equal(usage.dead, np.zeros(CODEBOOKS))
            np.testing.assert_allclose(state.counts, counts, rtol=1e-5)
            np.testing.assert_allclose(state.sums, sums, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(state.entries, entries, rtol=1e-4, atol=1e-4)

    def test_codebooks_follow_what_they_are_given(self):
        latents = draw_latents(0)
        state = codebook_learning.start(jnp.asarray(draw_entries(0)), VECTORS)
        errors = []
        for step in range(30):
            codes = encode(state.entries, latents)
            errors.append(np.mean((latents - quantizer.decode(state.entries, codes)) ** 2))
            state, _ = update(
                state, latents, codes, jax.random.key(step), decay=0.8, restart_below=0.2
            )
        self.assertLess(errors[-1], 0.5 * errors[0])

    def far(self):
        """A state whose last two entries of every codebook are too far to be used."""
        entries = draw_entries(0)
        entries[:, -2:] += 50
        return codebook_learning.start(jnp.asarray(entries), VECTORS)

    def test_nothing_restarts_without_a_threshold(self):
        state = self.far()
        for step in range(5):
            latents = draw_latents(step)
            codes = encode(state.entries, latents)
            before = state
            state, usage = update(
                state, latents, codes, jax.random.key(step), decay=0.5, restart_below=0.0
            )
            np.testing.assert_array_equal(usage.dead, np.zeros(CODEBOOKS))
            np.testing.assert_allclose(state.counts[:, -2:], before.counts[:, -2:] / 2, rtol=1e-6)
            np.testing.assert_allclose(state.entries[:, -2:], before.entries[:, -2:], rtol=1e-4)

    @parameterized.parameters((0.49, False), (0.51, True))
    def test_restarts_below_a_share_of_the_average_use(self, restart_below, restarts):
        latents, state = draw_latents(0), self.far()
        codes = encode(state.entries, latents)
        _, usage = update(
            state, latents, codes, jax.random.key(0), decay=0.5, restart_below=restart_below
        )
        # Half of the count of equal use is left of entries that had no vector.
        for k in range(CODEBOOKS):
            used = np.bincount(np.ravel(codes[:, k]), minlength=ENTRIES)
            dead = np.mean((8 + used / 2) < restart_below * 16)
            self.assertEqual(float(usage.dead[k]), dead)
            self.assertEqual(dead > 0, restarts)

    def test_restarted_entries_stay_and_are_used(self):
        latents, state = draw_latents(0), self.far()
        codes = np.asarray(encode(state.entries, latents))
        for stage in range(CODEBOOKS):
            self.assertLess(codes[:, stage].max(), ENTRIES - 2)
        options = {"decay": 0.5, "restart_below": 0.51}
        inputs, _ = stage_inputs(np.asarray(state.entries), codes, latents)
        restarted, usage = update(state, latents, codes, jax.random.key(0), **options)
        self.assertGreaterEqual(float(usage.dead.min()), 2 / ENTRIES)
        drawn = []
        for k in range(CODEBOOKS):
            fresh = np.asarray(restarted.entries[k, -2:])
            apart = squared_distances(fresh, inputs[k])
            drawn.append(apart.argmin(axis=1))
            np.testing.assert_allclose(fresh, inputs[k][drawn[k]], rtol=1e-5, atol=1e-5)
            self.assertNotEqual(*drawn[k])
            np.testing.assert_array_equal(restarted.counts[k, -2:], [16, 16])  # average use
        self.assertFalse(np.array_equal(drawn[0], drawn[1]))  # every stage draws its own

        # A batch that never comes near: the count decays, the entry stays.
        away = np.full_like(latents, -50.0)
        codes_away = np.asarray(encode(restarted.entries, away))
        idle = [n for n in (-2, -1) if not np.any(codes_away[:, 0] == ENTRIES + n)]
        self.assertNotEmpty(idle)
        after, _ = update(
            restarted, away, codes_away, jax.random.key(1), decay=0.9, restart_below=0.51
        )
        np.testing.assert_allclose(after.counts[0, idle], [0.9 * 16] * len(idle), rtol=1e-6)
        for n in idle:
            np.testing.assert_allclose(
                after.entries[0, n], inputs[0][drawn[0][n]], rtol=1e-5, atol=1e-5
            )

        # The same batch: the vector that was drawn now has the entry for its code.
        codes = np.asarray(encode(restarted.entries, latents))
        first = codes[:, 0].reshape(-1)
        np.testing.assert_array_equal(first[drawn[0]], [ENTRIES - 2, ENTRIES - 1])

    @parameterized.parameters((ENTRIES, 8.0), (4, 4.0), (1, 1.0))
    def test_perplexity_counts_the_entries_in_use(self, used, expected):
        codes = np.arange(VECTORS).reshape(ITEMS, 1, FRAMES) % used
        codes = np.repeat(codes, CODEBOOKS, axis=1)
        state = codebook_learning.start(jnp.asarray(draw_entries(0)), VECTORS)
        _, usage = update(
            state, draw_latents(0), codes, jax.random.key(0), decay=0.0, restart_below=0.0
        )
        np.testing.assert_allclose(usage.perplexity, [expected] * CODEBOOKS, rtol=1e-5)


class QuantizeTest(chex.TestCase):
    def setUp(self):
        super().setUp()
        self.entries, self.latents = draw_entries(0), draw_latents(0)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(1, 2, 3)
    def test_value_and_commitment_equal_numpy(self, count):
        # The count is traced: one compiled function serves all.
        quantize = self.variant(codebook_learning.quantize)
        quantized, codes, loss = quantize(self.entries, self.latents, jnp.int32(count))
        expected = quantizer.encode(self.entries, self.latents)
        np.testing.assert_array_equal(codes, expected)  # of all stages, also those not in use
        decoded = quantizer.decode(self.entries[:count], expected[:, :count])
        np.testing.assert_allclose(quantized, decoded, atol=1e-6)
        inputs, rest = stage_inputs(self.entries, expected, self.latents)
        left = [np.mean(residual**2) for residual in (*inputs[1:], rest)]
        np.testing.assert_allclose(loss, np.mean(left[:count]), rtol=1e-5)

    def test_one_compilation_for_all_counts(self):
        quantize = jax.jit(chex.assert_max_traces(codebook_learning.quantize, n=1))
        losses = [quantize(self.entries, self.latents, jnp.int32(n))[2] for n in (1, 2, 3)]
        self.assertLen({float(loss) for loss in losses}, 3)

    @parameterized.parameters(1, 3)
    def test_gradient_goes_straight_through(self, count):
        upstream = np.random.default_rng(1).standard_normal(self.latents.shape).astype(np.float32)

        def value(latents, entries):
            quantized, _, _ = codebook_learning.quantize(entries, latents, jnp.int32(count))
            return jnp.sum(quantized * upstream)

        of_latents, of_entries = jax.jit(jax.grad(value, (0, 1)))(self.latents, self.entries)
        np.testing.assert_allclose(of_latents, upstream, rtol=1e-6)
        np.testing.assert_array_equal(of_entries, np.zeros_like(self.entries))

    def test_every_stage_has_a_part_in_the_gradient_of_the_commitment(self):
        def commitment(latents, entries, count):
            return codebook_learning.quantize(entries, latents, count)[2]

        gradient = jax.jit(jax.grad(commitment, (0, 1)))
        codes = quantizer.encode(self.entries, self.latents)
        inputs, rest = stage_inputs(self.entries, codes, self.latents)
        left = np.array([*inputs[1:], rest]).reshape(CODEBOOKS, *self.latents.shape)
        found = {}
        for count in (1, 2, 3):
            found[count], of_entries = gradient(self.latents, self.entries, count)
            expected = 2 / (VECTORS * DIM * count) * left[:count].sum(axis=0)
            np.testing.assert_allclose(found[count], expected, rtol=1e-4, atol=1e-7)
            np.testing.assert_array_equal(of_entries, np.zeros_like(self.entries))
        # Were only the first stage to reach the encoder, these would be a third of the first's.
        difference = jnp.linalg.norm(found[3] - found[1] / 3) / jnp.linalg.norm(found[3])
        self.assertGreater(float(difference), 0.1)


class DevicesTest(parameterized.TestCase):
    def test_eight_devices_equal_one(self):
        code = "from tests.training import test_codebook_learning as t; t.compare_devices()"
        self.assertIn("8 devices equal one", compilation.output_on_devices(8, code))


def compare_devices():
    """K-means and three updates; run where there are 8 devices."""
    count = len(jax.devices())
    one, every = train(1), train(count)
    for (state, codes, usage), (others, other_codes, other_usage) in zip(one, every, strict=True):
        np.testing.assert_array_equal(codes, other_codes)
        chex.assert_trees_all_close(state.entries, others.entries, rtol=1e-5, atol=1e-5)
        chex.assert_trees_all_close((state, usage), (others, other_usage), rtol=1e-4, atol=1e-4)
    restarts = np.array([usage.dead for _, _, usage in one[1:]])
    assert np.all(restarts.sum(axis=0) > 0), f"no restarts to compare: {restarts}"
    print(f"{count} devices equal one")


def train(num_devices):
    """States, codes and usage of k-means and three updates on so many devices."""
    mesh = jax.make_mesh(
        (num_devices,),
        ("data",),
        axis_types=(jax.sharding.AxisType.Auto,),
        devices=jax.devices()[:num_devices],
    )

    def begin(latents, key):
        state = codebook_learning.k_means(
            latents,
            key,
            num_codebooks=CODEBOOKS,
            codebook_size=ENTRIES,
            iterations=10,
            axis_name="data",
        )
        return state, quantizer.encode(state.entries, latents)

    def step(state, latents, key):
        codes = quantizer.encode(state.entries, latents)
        state, usage = codebook_learning.update(
            state, latents, codes, key, decay=0.5, restart_below=0.8, axis_name="data"
        )
        return state, codes, usage

    everywhere, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("data")
    options = {"mesh": mesh, "check_vma": False}
    begin = jax.shard_map(
        begin, in_specs=(split, everywhere), out_specs=(everywhere, split), **options
    )
    step = jax.shard_map(
        step,
        in_specs=(everywhere, split, everywhere),
        out_specs=(everywhere, split, everywhere),
        **options,
    )
    begin, step = jax.jit(begin), jax.jit(step)
    state, codes = begin(draw_latents(0, items=8), jax.random.key(0))
    results = [(state, codes, codebook_learning.Usage(np.zeros(0), np.zeros(0)))]
    for index in range(1, 4):
        state, codes, usage = step(state, draw_latents(index, items=8), jax.random.key(index))
        results.append((state, codes, usage))
    return jax.tree.map(np.asarray, results)
