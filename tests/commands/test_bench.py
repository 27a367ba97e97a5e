"""`run.py bench`: its figures, its tables and its errors."""

import contextlib
import io
import json
import os
import pathlib
import re
import sys
import tempfile
import time
from unittest import mock

import numpy as np
import pytest
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from configs import encodec_24khz
from configs import encodec_48khz
from encodec_hk import framing
from encodec_hk.benchmark import implementations
from encodec_hk.benchmark import measurements
from encodec_hk.benchmark import onnx_contenders
from encodec_hk.benchmark import timing
from encodec_hk.benchmark import timing_tables
from encodec_hk.benchmark import tokenizing
from encodec_hk.commands import bench
from encodec_hk.convert import pytorch_codecs
from tests import random_networks
from tests import references
from tests import tokenize_cases

ROOT = pathlib.Path(__file__).parents[2]


CASE = {
    "direction": "encode",
    "seconds": 10,
    "batch": 1,
    "median": {implementations.OURS: 0.2, "transformers": 0.3},
    "ratio": {"transformers": 1.5},
    "real_time": 50.0,
    "memory": {implementations.OURS: 2_000_000, "transformers": None},
    "multiply_adds": 1e8,
}


def small(variant):
    """Return a variant made small, with a checkpoint that does not exist."""
    with variant.unlocked():
        variant.model.update({"num_filters": 2, "latent_dim": 8})
        variant.checkpoint = "none.safetensors"
        variant.bench.update({"seconds": (0.5,), "batches": (1,), "max_runs": 2})
    return variant


def tiny(**overrides):
    """Return a codec that compiles quickly, with random weights."""
    model_config = random_networks.small(**overrides)
    params = random_networks.random_params(model_config)
    return encodec_hk.Codec(model_config, params, name="tiny", batch_size=2)


class BenchTest(parameterized.TestCase):
    def run_bench(self, variant, status=0, **settings):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertEqual(bench.run(variant, **settings), status)
        return out.getvalue()

    @pytest.mark.slow
    def test_stream(self):
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        cores = os.sched_getaffinity(0)
        try:
            text = self.run_bench(
                small(encodec_24khz.get_config()),
                measure=["stream"],
                frames=5,
                bandwidth=3.0,
                threads=1,
                out=str(folder / "bench.json"),
            )
        finally:
            os.sched_setaffinity(0, cores)
        figures = json.loads((folder / "bench.json").read_text())
        self.assertEqual(figures["threads"], 1)
        self.assertEqual((figures["kbps"], figures["weights"]), (3.0, "random"))
        stream = figures["stream"]
        self.assertEqual(stream["pushes"], 5)
        self.assertAlmostEqual(stream["ms_of_a_push"], 320 / 24)
        for direction in ("encode", "decode"):
            found = stream[direction]
            self.assertBetween(found["median_ms"], 0, found["p99_ms"])
            self.assertRegex(text, f"{direction} +{found['median_ms']:.2f} ms")

    @pytest.mark.slow
    def test_tokenize(self):
        codec = tokenize_cases.codec()
        found = tokenizing.measure(codec, codec.bandwidth, target=0.1)
        kinds = [(case["format"], case["sample_rate"], case["channels"]) for case in found]
        stereo, own = (44100, 2), (codec.sample_rate, codec.channels)
        self.assertEqual(
            kinds, [(".flac", *stereo), (".mp3", *stereo), (".flac", *own), (".mp3", *own)]
        )
        for case in found:
            self.assertBetween(case["ratio"] * case["encode"] / case["tokenize"], 0.2, 5)
        with mock.patch.object(tokenizing, "measure", return_value=found):
            text = self.run_bench(small(encodec_24khz.get_config()), measure=["tokenize"])
        name = r"\.flac 44\.1 kHz x 2, 12 x 10 s, batch 4, 1 reader"
        self.assertRegex(text, name + " +[0-9.]+ +[0-9.]+ +[0-9.]+")

    @pytest.mark.slow
    def test_segments(self):
        text = self.run_bench(
            small(encodec_48khz.get_config()), measure=["whole", "layers", "stream"], frames=1
        )
        self.assertIn("pushes of 990 ms, 1", text)
        self.assertIn("encode 0.5 s x 1", text)
        self.assertIn("decoder/stage_3", text)

    @pytest.mark.slow
    def test_whole_signals_beside_a_reference(self):
        variant = small(encodec_24khz.get_config())
        with variant.unlocked():
            variant.bench.min_ratios = (
                ("transformers", "encode", 0.5, 1, 0.0),
                ("transformers", "decode", 0.5, 1, 1e6),
                ("encodec", "decode", 0.5, 1, 1e6),  # not measured
            )
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        text = self.run_bench(
            variant,
            status=1,
            measure=["whole"],
            compare=["transformers"],
            out=str(folder / "bench.md"),
        )
        self.assertEqual(len(re.findall("too slow", text)), 1)
        self.assertRegex(text, r"too slow: decode 0.5 s x 1: \d+\.\d+ times as fast as transf")
        page = (folder / "bench.md").read_text()
        self.assertRegex(page, r"\| encode 0.5 s x 1 \| [\d.]+ m?s \| [\d.]+ \| \d+% \|")
        self.assertIn("torch", page.splitlines()[0])

    def test_unavailable_implementation_is_reported(self):
        with (
            mock.patch.dict(sys.modules, {"encodec.model": None}),
            mock.patch.object(measurements, "whole", return_value=[CASE]) as measure,
            mock.patch.object(timing, "matrix_peak", return_value=1e9),
        ):
            text = self.run_bench(
                small(encodec_24khz.get_config()), measure=["whole"], compare=["encodec"]
            )
        self.assertRegex(text, "^--compare=encodec: .*needs encodec 0.1.1")
        self.assertEqual([*measure.call_args.args[1]], [implementations.OURS])

    @parameterized.parameters(
        ({"frames": 0}, "--frames: got 0"),
        ({"threads": 0}, "--threads: got 0, must be 1 to"),
        ({"threads": 10**6}, "--threads: got 1000000, must be 1 to"),
        ({"bandwidth": 2.0}, "bandwidth: got 2.0"),
        (
            {"measure": ["all"]},
            "--measure: got 'all', must be one of whole, layers, stream, start, tokenize",
        ),
        ({"compare": ["jukebox"]}, "--compare: got 'jukebox', must be one of transformers, "),
        ({"out": "bench.txt"}, "--out: got bench.txt, must end in .json or .md"),
    )
    def test_bad_calls(self, settings, message):
        with self.assertRaisesRegex(ValueError, message):
            bench.run(small(encodec_24khz.get_config()), **settings)

    @parameterized.parameters(
        ("seconds", (0,)),
        ("batches", ()),
        ("max_runs", 0),
        ("min_ratios", (("transformers", "encode", 10, 1),)),
        ("min_ratios", (("transformers", "encode", 10, 1, "2"),)),
    )
    def test_bad_settings(self, field, value):
        variant = small(encodec_24khz.get_config())
        with variant.unlocked():
            variant.bench[field] = value
        with self.assertRaisesRegex(ValueError, f"config.bench.{field}: got .* must be"):
            bench.run(variant)


class TimingTest(parameterized.TestCase):
    def test_turns(self):
        order = []
        calls = {name: lambda name=name: order.append(name) for name in "ab"}
        runs = timing.in_turns(calls, max_runs=5, seconds=100)
        self.assertEqual("".join(order), "ababababab")
        self.assertEqual([len(runs[name].seconds) for name in "ab"], [5, 5])

    def test_at_least_three_rounds(self):
        runs = timing.in_turns({"a": lambda: None}, max_runs=9, seconds=0)
        self.assertLen(runs["a"].seconds, 3)

    def test_seconds_and_memory(self):
        size = 64_000_000

        def call():
            time.sleep(0.05)
            return np.ones(size, np.uint8).sum()

        runs = timing.in_turns({"": call}, max_runs=3, seconds=9)[""]
        self.assertBetween(runs.median, 0.05, 5)
        if runs.memory is not None:
            self.assertBetween(runs.memory, size // 2, 4 * size)

    def test_matrix_peak(self):
        with mock.patch.object(timing, "_PEAK_SIZE", 64):
            self.assertGreater(timing.matrix_peak(), 1e6)


class WholeTest(absltest.TestCase):
    @pytest.mark.slow
    def test_ours_and_another_in_turns(self):
        codec = tiny()
        order = []
        slow = pytorch_codecs.Contender(
            lambda audio: (order.append("encode"), time.sleep(0.2), audio)[2],
            lambda audio: (order.append("decode"), audio)[1],
        )
        found = [
            *measurements.whole(
                codec,
                {implementations.OURS: implementations.ours(codec, codec.bandwidth), "slow": slow},
                lengths=(1, 0.5),
                batches=(2,),
                max_runs=3,
                multiply_adds={"encode": 5.0, "decode": 7.0},
            )
        ]
        cases = [(case["direction"], case["seconds"], case["batch"]) for case in found]
        self.assertEqual(
            cases, [("encode", 0.5, 2), ("decode", 0.5, 2), ("encode", 1, 2), ("decode", 1, 2)]
        )
        self.assertEqual(order, ["encode", "decode"] + 2 * (3 * ["encode"] + 3 * ["decode"]))
        for case in found:
            own, other = case["median"][implementations.OURS], case["median"]["slow"]
            self.assertAlmostEqual(case["ratio"]["slow"], other / own)
            self.assertAlmostEqual(case["real_time"], 2 * case["seconds"] / own)
            self.assertEqual({len(runs) for runs in case["runs"].values()}, {3})
        self.assertGreater(found[0]["median"]["slow"], 0.2)
        frames = -(-1200 // codec.hop_length)
        self.assertEqual(found[2]["multiply_adds"], 5.0 * frames * 2)


class LayersTest(parameterized.TestCase):
    @pytest.mark.slow
    def test_every_layer_once(self):
        codec = tiny()
        found = measurements.layers(
            codec, batch=2, num_codebooks=2, multiply_adds={"encoder/lstm": 3}
        )
        stages = [f"stage_{index}" for index in range(len(codec.model_config.ratios))]
        expected = [f"encoder/{layer}" for layer in ("conv_in", *stages, "lstm", "conv_out")]
        expected += ["quantizer.encode", "quantizer.decode"]
        expected += [f"decoder/{layer}" for layer in ("conv_in", "lstm", *stages, "conv_out")]
        self.assertEqual([layer["name"] for layer in found], expected)
        self.assertTrue(all(layer["seconds"] > 0 for layer in found))
        lstm = next(layer for layer in found if layer["name"] == "encoder/lstm")
        self.assertEqual(lstm["multiply_adds"], 3 * 2 * codec.block_frames)

    @pytest.mark.slow
    def test_layers_in_a_row_are_the_network(self):
        codec = tiny()
        samples = 20 * codec.hop_length
        audio = np.random.default_rng(0).standard_normal((1, samples, 1)).astype(np.float32)
        begin = np.zeros(1, np.int32)
        x = audio
        for index in range(len(codec.model.layer_names("encoder"))):
            x = codec.model.layer_block(codec.params, x, begin, network="encoder", index=index)
        state = codec.model.encoder_state(1)
        _, latents = codec.model.embed_block(codec.params, state, audio, begin + samples, begin > 0)
        np.testing.assert_allclose(x, latents, atol=1e-5)


class ImplementationsTest(parameterized.TestCase):
    @parameterized.parameters("encodec_24khz", "encodec_48khz")
    @pytest.mark.slow
    def test_references_have_our_weights(self, name):
        """The implementations that are timed together compute the same audio."""
        codec = references.codec(name)
        audio = references.audio(1.3, codec.sample_rate, codec.channels)[None]
        own = implementations.ours(codec, 6.0)
        encoded = own.encode(audio)
        sound = own.decode(encoded)
        for kind in ("transformers", "encodec"):
            reference = pytorch_codecs.build(kind, codec, 6.0, num_threads=1)
            theirs = reference.decode(reference.encode(audio)).numpy().swapaxes(1, 2)
            difference = np.abs(theirs[:, : audio.shape[1]] - sound).max()
            self.assertLess(difference, 1e-3, kind)

    def test_another_model_is_not_metas(self):
        codec = tiny()
        references.import_encodec()
        with self.assertRaisesRegex(ValueError, "not one of Meta's two models"):
            pytorch_codecs.build("encodec", codec, codec.bandwidth, num_threads=1)

    @parameterized.parameters(*onnx_contenders.KINDS)
    def test_onnx_has_our_weights(self, kind):
        codec = tiny()
        audio = references.audio(1.3, codec.sample_rate, codec.channels)[None]
        own = implementations.ours(codec, codec.bandwidth)
        encoded = own.encode(audio)
        other = implementations.build(kind, codec, codec.bandwidth, num_threads=1)
        codes = other.encode(audio)
        np.testing.assert_array_equal(codes, encoded.codes)
        theirs = other.decode(codes).swapaxes(1, 2)[:, : audio.shape[1]]
        np.testing.assert_allclose(theirs, own.decode(encoded), rtol=0, atol=1e-5)

    @parameterized.parameters(*onnx_contenders.KINDS)
    def test_onnx_takes_no_segments(self, kind):
        codec = mock.Mock(framing=framing.Framing(120, 118, 12))
        with self.assertRaisesRegex(ValueError, "cuts signals into segments is not timed"):
            implementations.build(kind, codec, 6.0, num_threads=1)

    def test_versions_of_every_kind(self):
        self.assertContainsSubset({"jax", "torch"}, implementations.versions(["transformers"]))
        found = implementations.versions(["onnxruntime"])
        self.assertEqual(set(found), {"jax", "jaxlib", "onnxruntime"})
        self.assertEqual(set(implementations._PACKAGES), set(implementations.KINDS))


class StartTest(absltest.TestCase):
    def test_starts_of_a_command(self):
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        seen = folder / "seen"
        (folder / "run.py").write_text(
            "import os, sys\n"
            "assert sys.argv[1:3] == ['infer', 'noise.wav'], sys.argv\n"
            "assert os.path.exists('noise.wav') and os.path.exists('weights.safetensors')\n"
            f"open({str(seen)!r}, 'a').write(os.environ['JAX_COMPILATION_CACHE_DIR'] + '\\n')\n"
        )
        codec = tiny()
        found = measurements.start(codec, [sys.executable, str(folder / "run.py")])
        self.assertGreater(min(found["first"], found["second"]), 0)
        caches = seen.read_text().split()
        self.assertEqual((len(caches), len(set(caches))), (4, 1))

    def test_a_command_that_fails(self):
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        (folder / "run.py").write_text("import sys; sys.exit('no such thing')")
        codec = tiny()
        with self.assertRaisesRegex(ValueError, "^infer: no such thing"):
            measurements.start(codec, [sys.executable, str(folder / "run.py")])


class TableTest(absltest.TestCase):
    def test_published_tables_match_the_published_figures(self):
        for path in (ROOT / "docs" / "performance").glob("*.json"):
            figures = json.loads(path.read_text())
            page = (ROOT / "docs" / "performance.md").read_text()
            for paragraph in timing_tables.markdown(figures).split("\n\n"):
                if paragraph.startswith("|"):
                    self.assertIn(paragraph.strip(), page, path.name)
                else:  # prose may break elsewhere
                    self.assertIn(" ".join(paragraph.split()), " ".join(page.split()), path.name)

    def test_memory_beside_several_references_is_a_table_of_its_own(self):
        figures = json.loads((ROOT / "docs/performance/encodec_48khz.json").read_text())
        _, speed, memory, *_ = timing_tables.markdown(figures).split("\n\n")
        self.assertStartsWith(speed, "|  | ours | x real time | of the peak | transformers |")
        self.assertNotIn("MB", speed)
        self.assertStartsWith(memory, "| memory | ours | transformers | encodec |")
        self.assertIn("| encode 10 s x 1 | 85 MB | 54 MB | 55 MB |", memory)

    def test_a_minimum_applies_to_its_case_only(self):
        for minimum, is_too_slow in (
            (("transformers", "encode", 10, 1, 1.5), False),
            (("transformers", "encode", 10, 1, 1.6), True),
            (("transformers", "decode", 10, 1, 9.0), False),
            (("transformers", "encode", 60, 1, 9.0), False),
            (("encodec", "encode", 10, 1, 9.0), False),
        ):
            self.assertEqual(
                bool(timing_tables.shortfalls([CASE], (minimum,))), is_too_slow, minimum
            )


if __name__ == "__main__":
    absltest.main()
