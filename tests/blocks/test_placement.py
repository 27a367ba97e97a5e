"""Several devices: the codes of one, evenly shared work, and no more to compile.

What needs eight devices runs in a process of its own, which has them of one processor.
"""

import contextlib
import functools
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

import chex
import jax
import numpy as np
import pytest
from absl.testing import parameterized

import encodec_hk
from encodec_hk.sound import sound_files
from tests import compilation
from tests import random_networks

ROOT = pathlib.Path(__file__).parents[2]
VARIANTS = random_networks.VARIANTS
CAUSAL = VARIANTS["causal"]


def make(variant, devices=None, **settings):
    smallest = {"ratios": (12,), "num_lstm_layers": 1}  # they are compiled often
    model_config = random_networks.small(**{**smallest, **variant})
    settings = {"block_seconds": 0.1, **settings}
    return encodec_hk.Codec(
        model_config, random_networks.random_params(model_config), devices=devices, **settings
    )


def draw(codec, count, seed=0):
    """Items of 1 to 500 samples."""
    rng = np.random.default_rng(seed)
    lengths = [1, 12, 119, 500, *rng.integers(1, 500, 20)][:count]
    return [0.1 * rng.standard_normal((n, codec.channels)).astype(np.float32) for n in lengths]


def rows_by_device(array):
    """How many rows of an array each of its devices has."""
    return [(shard.device, len(shard.data)) for shard in array.addressable_shards]


class DevicesTest(chex.TestCase):
    def test_one_device_shares_nothing(self):
        for devices in (None, jax.devices()[:1]):
            codec = make(CAUSAL, devices)
            self.assertEqual(codec.num_devices, 1)
            self.assertIsInstance(codec.encode_rows, functools.partial)
            for leaf in jax.tree.leaves(codec.params):
                self.assertEqual(leaf.devices(), set(jax.devices()[:1]))
                self.assertEqual(leaf.committed, devices is not None)

    @parameterized.named_parameters(
        ("none", [], r"got \[\]"),
        ("names", ["cpu:0"], r"got \['cpu:0'\]"),
        ("number", 2, "got 2"),
        ("twice", "twice", "distinct devices"),
        ("elsewhere", "elsewhere", "of this process"),
    )
    def test_bad_devices(self, devices, message):
        if devices == "twice":
            devices = 2 * jax.devices()[:1]
        elif devices == "elsewhere":
            devices = jax.devices()[:1]
            self.enter_context(mock.patch.object(jax, "process_index", return_value=1))
        with self.assertRaisesRegex(ValueError, f"devices: .*{message}"):
            make(CAUSAL, devices)

    @pytest.mark.slow
    def test_eight_devices_are_as_one(self):
        run(check)

    @pytest.mark.slow
    def test_any_number_of_items(self):
        run(check_all)

    @pytest.mark.slow
    def test_infer(self):
        """Files to codes and back: of eight devices as of one."""
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        found = []
        for count in (1, 8):
            codes, sound = folder / f"codes_{count}", folder / f"sound_{count}"
            for source, target in ((ROOT / "assets/clips", codes), (codes, sound)):
                command = [sys.executable, "run.py", "infer", str(source), str(target)]
                command += ["--config=configs/encodec_tiny.py"]
                command += ["--suffix=.ecdc"] if target == codes else []
                environment = compilation.devices(count)
                done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
                self.assertEqual(done.returncode, 0, done.stderr)
            found.append((codes, sound))
        (codes, sound), (eight_codes, eight_sound) = found
        for path in codes.iterdir():
            self.assertEqual((eight_codes / path.name).read_bytes(), path.read_bytes())
        self.assertLen(list(sound.iterdir()), 5)
        for path in sound.iterdir():
            expected = sound_files.read(path).samples
            np.testing.assert_allclose(
                sound_files.read(eight_sound / path.name).samples, expected, atol=1.1 * 2**-15
            )


def run(function):
    """Runs a function of this file where there are eight devices."""
    code = f"from tests.blocks import test_placement as t; t.{function.__name__}()"
    assert "8 devices are as one" in compilation.output_on_devices(8, code)


def check():
    """What the default run checks, with few programs; runs where there are eight devices."""
    for variant, count in (("causal", 7), ("segmented", 1)):
        check_items(variant, [count], batch_size=1)
        with compilation.counted() as compiled:
            check_items(variant, [1, 9, 20], batch_size=1)  # other lengths, other codecs
            check_streams(variant)
        assert not compiled, compiled
    print(f"{len(jax.devices())} devices are as one")


def check_all():
    """More variants, numbers of items, devices and ways to ask."""
    for variant in VARIANTS:
        check_items(variant, range(1, 21))
        check_items(variant, range(1, 21, 3), jax.devices()[2:5])
        check_streams(variant)
    check_fewer_places()
    check_blocks()
    check_defaults()
    print(f"{len(jax.devices())} devices are as one")


def check_items(variant, counts, devices=None, batch_size=2):
    """Codes of one device, audio to rounding; as many rows of every block on each device."""
    settings = {"batch_size": batch_size}
    alone = make(VARIANTS[variant], jax.devices()[:1], **settings)
    codec = make(VARIANTS[variant], devices, **settings)
    num_devices = codec.num_devices
    assert num_devices == len(devices or jax.devices())
    for count in counts:
        audio = draw(codec, count, seed=count)
        expected = alone.encode(audio)
        is_shared = count > 1 or codec.framing.has_segments
        places = 1 if count <= num_devices else batch_size
        with spied(codec) as blocks:
            encoded = codec.encode(audio)
            decoded = codec.decode(encoded)
        chex.assert_trees_all_equal(encoded, expected)
        np.testing.assert_allclose(decoded, alone.decode(expected), rtol=0, atol=1e-6)
        for state, outputs in blocks:
            for leaf in jax.tree.leaves((state, outputs)):
                found = rows_by_device(leaf)
                if is_shared:
                    assert found == [(d, places) for d in devices or jax.devices()], found
                else:
                    assert found == [((devices or jax.devices())[0], 1)], found


@contextlib.contextmanager
def spied(codec):
    """A list of what every block within gives; nothing may move from device to device there."""
    blocks = []

    def noting(block):
        def noted(*args, **options):
            with jax.transfer_guard_device_to_device("disallow_explicit"):
                blocks.append(block(*args, **options))
            return blocks[-1]

        return noted

    with (
        mock.patch.object(codec, "encode_rows", noting(codec.encode_rows)),
        mock.patch.object(codec, "decode_rows", noting(codec.decode_rows)),
    ):
        yield blocks


def check_streams(variant):
    """As many streams as devices, each of which ends on its own."""
    settings = {"batch_size": 1}
    alone = make(VARIANTS[variant], jax.devices()[:1], **settings)
    codec = make(VARIANTS[variant], **settings)
    count = codec.num_devices
    audio = draw(codec, count)
    expected = alone.encode(audio)
    decoded = alone.decode(expected)
    first = [index for index, item in enumerate(audio) if len(item) <= 200]
    last = [index for index in range(count) if index not in first]
    assert first
    assert last
    pieces, sounds = [[] for _ in audio], [[] for _ in audio]
    with spied(codec) as blocks:
        encoder = codec.stream_encoder(batch=count, block_frames=10)
        decoder = codec.stream_decoder(batch=count, block_frames=10)
        for part, ending in ((slice(0, 200), first), (slice(200, None), last)):
            for codes in (encoder.push([item[part] for item in audio]), encoder.finish(ending)):
                for index, sound in enumerate(decoder.push(codes)):
                    pieces[index].append(codes[index])
                    sounds[index].append(sound)
            lengths = [len(item) for item in audio]
            for index, sound in enumerate(decoder.finish(lengths, ending)):
                sounds[index].append(sound)
    assert blocks
    for leaf in jax.tree.leaves(blocks):
        assert rows_by_device(leaf) == [(device, 1) for device in jax.devices()]
    for index, item in enumerate(audio):
        own = [piece[0] if isinstance(piece, tuple) else piece for piece in pieces[index]]
        own = np.concatenate(own, axis=1)
        np.testing.assert_array_equal(own, expected.codes[index, :, : own.shape[1]])
        assert own.shape[1] == expected.num_frames[index]
        own = np.concatenate(sounds[index])
        np.testing.assert_allclose(own, decoded[index, : len(item)], rtol=0, atol=1e-6)


def check_fewer_places():
    """Rows that go on when there are fewer places than devices, on the first of these."""
    alone, codec = make(CAUSAL, jax.devices()[:1]), make(CAUSAL)
    count = codec.num_devices
    audio = [np.tile(item, (600 // len(item) + 1, 1))[:600] for item in draw(codec, count)]
    expected = alone.encode(audio).codes
    with spied(codec) as blocks:
        runner = codec.runner(codec.encoder_program(codec.num_codebooks), count)
        rows = [runner.open() for _ in audio]
        for row, item in zip(rows, audio, strict=True):
            row.put(item[:480])
        runner.advance(wait=True)
        for row in rows[:-3]:
            row.end()
        runner.advance(wait=True)
        assert rows_by_device(blocks[-1][1]) == [(device, 1) for device in jax.devices()]
        runner.shrink(3)
        for row, item in zip(rows[-3:], audio[-3:], strict=True):
            row.put(item[480:])
            row.end()
        runner.advance(wait=True)
        assert rows_by_device(blocks[-1][1]) == [(jax.devices()[0], 3)]
    for row, codes in zip(rows[-3:], expected[-3:], strict=True):
        np.testing.assert_array_equal(np.concatenate(row.take(), axis=1), codes)


def check_blocks():
    """The block computation as its users call it: any number of rows, numpy or not, by name."""
    alone, codec = make(CAUSAL, jax.devices()[:1]), make(CAUSAL)
    for rows in (2, 8):
        audio = np.stack([item[:120] for item in draw(codec, 20) if len(item) >= 120][:rows])
        ends = {"num_valid": np.full(rows, 120), "is_last": np.arange(rows) % 2 > 0}
        given = (codec.model.encoder_state(rows), audio)
        state, codes = codec.encode_block(*given, *ends.values(), num_codebooks=2)
        _, expected = alone.encode_block(*given, *ends.values(), num_codebooks=2)
        np.testing.assert_array_equal(codes, expected)
        audio = jax.numpy.asarray(audio)
        _, after = codec.encode_rows(state, audio=audio, **ends, num_codebooks=2, energies=None)
        assert after.shape == codes.shape
        traced = jax.jit(functools.partial(codec.encode_block, num_codebooks=2))
        np.testing.assert_array_equal(traced(*given, *ends.values())[1], codes)
        _, whole = codec.encode_block(None, audio, None, None, num_codebooks=2)
        _, expected = alone.encode_block(None, audio, None, None, num_codebooks=2)
        np.testing.assert_array_equal(whole, expected)


def check_defaults():
    """Which devices there are by default; parameters are on all of them."""
    codec = make(CAUSAL)
    for leaf in jax.tree.leaves(codec.params):
        assert leaf.sharding.is_fully_replicated
        assert leaf.sharding.device_set == set(jax.devices())
    third = jax.devices()[2]
    for name in (third, "cpu"):
        with jax.default_device(name):
            one = make(CAUSAL)
            assert one.num_devices == 1
            encoded = one.encode(draw(one, 3))
    assert jax.tree.leaves(make(CAUSAL, [third]).params)[0].devices() == {third}
    chex.assert_trees_all_equal(encoded, codec.encode(draw(codec, 3)))
    assert one.fingerprint == codec.fingerprint
