"""Small codecs, a stand-in for one, and test cases that run `run.py infer`."""

import contextlib
import copy
import functools
import io
import pathlib
import tempfile
from typing import Any
from unittest import mock

import jax
import numpy as np
from absl.testing import parameterized

import encodec_hk
from configs import base
from configs import encodec_tiny
from encodec_hk import bitstream
from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk import framing
from encodec_hk.blocks import program
from encodec_hk.blocks import scheduler
from encodec_hk.commands import checkpoints
from encodec_hk.commands import infer
from encodec_hk.sound import sound_files
from encodec_hk.system import interruption
from encodec_hk.transcode import stdio
from tests import random_networks

REPOSITORY = pathlib.Path(__file__).parents[1]
RATE = 24000
HOP = 320
BLOCK = 75 * HOP  # samples of a block in version 1
SEGMENTS = {
    "sample_rate": 48000,
    "channels": 2,
    "causal": False,
    "norm": "time_group_norm",
    "normalize": True,
    "segment_seconds": 1.0,
}


def make_codec(
    name: str, *, source: str = "random", seed: int = 0, batch_size: int = 2, **fields: Any
) -> encodec_hk.Codec:
    """Return a tiny codec with the hop of Meta's; its default is 2 of its 3 codebooks."""
    model = base.get_config().model
    model.update(ratios=(20, 16), num_filters=2, latent_dim=4, num_lstm_layers=0, num_codebooks=3)
    model.update(fields)
    model.bandwidths = tuple(config.bandwidth_for(model, count) for count in (1, 2, 3))
    return encodec_hk.Codec(
        model,
        random_networks.random_params(model, seed),
        name=name,
        source=source,
        bandwidth=model.bandwidths[1],
        batch_size=batch_size,
        block_seconds=0.25,
    )


@functools.cache
def meta_codec() -> encodec_hk.Codec:
    """Return a codec that all tests share, so that its programs are compiled once."""
    return make_codec("encodec_24khz")


def like(codec: encodec_hk.Codec, **attributes: Any) -> encodec_hk.Codec:
    """Return the same codec and compiled programs with other attributes, such as its name."""
    other = copy.copy(codec)
    for name, value in attributes.items():
        setattr(other, name, value)
    return other


def noise(length: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Return noise [T, C], whose codes are spread over the codebooks."""
    rng = np.random.default_rng(seed)
    return np.clip(0.2 * rng.standard_normal((length, channels)), -1, 1).astype(np.float32)


class Pipe(io.BytesIO):
    """A pipe: it returns few bytes at a time and does not seek."""

    def __init__(self, data: bytes, most: int = 5000) -> None:
        super().__init__(data)
        self._most = most

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert size > 0
        return super().read(min(size, self._most))

    def seekable(self) -> bool:
        return False


class Unchanged:
    """Stands in for a codec and changes the level alone: the samples of a frame are its codes.

    Attributes:
      batches: places of every encoder, and what they shrank to.
      lengths: samples of every item that was encoded.
      counts: numbers of codebooks that were used.
    """

    name, source, fingerprint = "unchanged", "", 64 * "0"
    codes_of = checkpoint.CodesOf(name, source, fingerprint)
    bandwidth = 6.0
    hop_length = 320
    block_frames = 75

    def __init__(self, gain: float = 1.0, batch_size: int = 8) -> None:
        self.model_config = encodec_tiny.get_config().model
        self.channels = self.model_config.channels
        self.sample_rate = self.model_config.sample_rate
        self.framing = framing.Framing.undivided(self.hop_length)
        self.batch_size = batch_size
        self.gain = gain
        self.batches: list[int] = []
        self.lengths: list[int] = []
        self.counts: set[int] = set()

    count_codebooks = encodec_hk.Codec.count_codebooks

    def check_encoder(self) -> None:
        pass

    def places(self, num_items: int) -> int:
        return scheduler.places_for(num_items, self.batch_size)

    def encoder_program(self, num_codebooks: int) -> program.Program:
        self.counts.add(num_codebooks)

        def step(
            totals: np.ndarray, block: np.ndarray, num_valid: np.ndarray, is_last: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            assert block.dtype == np.float32
            totals = totals + num_valid
            self.lengths += [int(total) for total in totals[is_last]]
            frames = block.reshape(len(block), -1, self.hop_length)
            return np.where(is_last, 0, totals), frames.transpose(0, 2, 1)

        return program.Program(step, lambda batch: np.zeros(batch, int), 0, 1, self.hop_length, 1)

    def decoder_program(self) -> program.Program:
        def step(state: Any, block: np.ndarray, *_: np.ndarray) -> tuple[Any, np.ndarray]:
            return state, self.gain * block.transpose(0, 2, 1).reshape(len(block), -1, 1)

        return program.Program(step, lambda batch: (), 1, 0, 1, self.hop_length)

    def runner(
        self, direction: program.Program, places: int, sizes: tuple[int, ...] | None = None
    ) -> scheduler.Scheduler:
        runner = scheduler.Scheduler(direction, places=places, sizes=sizes or (self.block_frames,))
        if direction.unit == self.hop_length:
            self.batches.append(places)
            shrink = runner.shrink

            def counted(places: int) -> None:
                self.batches.append(places)
                shrink(places)

            runner.shrink = counted  # type: ignore[method-assign]
        return runner


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def sound(length: int, channels: int = 1) -> np.ndarray:
    """Return a wave [T, C] slow enough for any rate; each channel has its own amplitude."""
    wave = 0.4 * np.sin(2 * np.pi * np.arange(length) / max(length, 1))
    return (wave[:, None] * np.linspace(1, 0.5, channels)).astype(np.float32)


def save(path: str, config: Any) -> None:
    """Write a checkpoint of random weights."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda expected: (0.1 * rng.normal(size=expected.shape)).astype(np.float32),
        checkpoint.expected_params(config.model),
    )
    facts = {"source": "random", "source_sha256": "", "licence": "none"}
    checkpoint.save(path, params, config.model, name=config.name, **facts)


class InferTestCase(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.codec: Any = Unchanged()
        self.stdout, self.stderr = "", ""

    def make(self, name: str, length: int = 2400, channels: int = 1, rate: int = 24000) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sound_files.write(path, sound(length, channels), rate)
        return str(path)

    def infer(self, inputs: str, output: str | None = None, **settings: Any) -> int:
        """Run the command with the codec of the test; keep what it prints."""
        stdout, stderr = io.StringIO(), settings.pop("stderr", io.StringIO())
        with (
            mock.patch.object(checkpoints, "load_codec", return_value=self.codec),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            try:
                return infer.run(None, inputs, output, **settings)
            finally:
                self.stdout, self.stderr = stdout.getvalue(), stderr.getvalue()

    def tree(self) -> list[str]:
        """Return every file below the folder of the test, hidden ones included."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if not path.is_dir()
        )


class CodesTestCase(InferTestCase):
    """Runs the command with a codec that all tests of the class share."""

    shared: encodec_hk.Codec

    def setUp(self) -> None:
        super().setUp()
        self.codec = self.shared

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, name: str, samples: np.ndarray, rate: int | None = None) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sound_files.write(path, samples, rate or self.codec.sample_rate, "float32")
        return str(path)

    def run_to(self, source: str, target: str, **settings: Any) -> str:
        """Transcode a file to another and return its path."""
        if not target.endswith(".ecdc"):
            settings = {"sample_format": "float32", **settings}
        path = self.path(target)
        self.assertEqual(self.infer(source, path, **settings), 0, self.stderr)
        return path

    def samples(self, path: str) -> np.ndarray:
        return sound_files.read(path).samples

    def header(self, path: str) -> bitstream.Header:
        with open(path, "rb") as file:
            return bitstream.open_reader(file).header

    def codes(self, path: str, recover: bool = False) -> np.ndarray:
        with open(path, "rb") as file:
            blocks = list(bitstream.open_reader(file).blocks(recover=recover))
        return np.concatenate([block.codes for block in blocks], axis=1)

    def fails(self, message: str, *arguments: str, **settings: Any) -> str:
        """Run the command, which must fail with one line and leave no file."""
        before = self.tree()
        with self.assertRaisesRegex(ValueError, message) as context:
            self.infer(*arguments, **settings)
        self.assertNotIn("\n", str(context.exception))
        self.assertEqual(self.tree(), before)
        return str(context.exception)

    def through_pipes(self, data: bytes, output: str = "-", **settings: Any) -> bytes:
        """Run the command with these bytes on stdin and return what it writes to stdout."""
        out = io.BytesIO()
        with (
            mock.patch.object(interruption, "postpone"),
            mock.patch.object(stdio, "stdin", return_value=Pipe(data)),
            mock.patch.object(stdio, "stdout", return_value=out),
        ):
            self.assertEqual(self.infer("-", output, **settings), 0)
        return out.getvalue()

    def to_pipe(self, source: str, **settings: Any) -> bytes:
        out = io.BytesIO()
        with mock.patch.object(stdio, "stdout", return_value=out):
            self.assertEqual(self.infer(source, "-", **settings), 0)
        return out.getvalue()
