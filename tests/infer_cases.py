"""What the tests of `run.py infer` with codes share: small networks, and how to run it."""

import copy
import functools
import io
from typing import Any
from unittest import mock

import numpy as np

import encodec_hk
from configs import base
from encodec_hk import bitstream
from encodec_hk import config
from encodec_hk.sound import sound_files
from encodec_hk.system import interruption
from encodec_hk.transcode import stdio
from tests import random_networks
from tests import test_infer

RATE = 24000
HOP = 320
BLOCK = 75 * HOP  # samples of a block of a file of version 1
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
    """A network of the hop of Meta's, as small as can be; 2 of its 3 codebooks by default."""
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
    """One of all tests, so that its programs are compiled once."""
    return make_codec("encodec_24khz")


def like(codec: encodec_hk.Codec, **attributes: Any) -> encodec_hk.Codec:
    """The same codec, with what is compiled, but of another name or source."""
    other = copy.copy(codec)
    for name, value in attributes.items():
        setattr(other, name, value)
    return other


def noise(length: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise [T, C] whose codes are all over the codebooks."""
    rng = np.random.default_rng(seed)
    return np.clip(0.2 * rng.standard_normal((length, channels)), -1, 1).astype(np.float32)


class Pipe(io.BytesIO):
    """A pipe to read from: gives few bytes at a time, and cannot be sought in."""

    def __init__(self, data: bytes, most: int = 5000) -> None:
        super().__init__(data)
        self._most = most

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert size > 0
        return super().read(min(size, self._most))

    def seekable(self) -> bool:
        return False


class CodesTestCase(test_infer.InferTestCase):
    """Runs the command with a codec that all tests of a class share."""

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
        """Makes a file of another; returns its path."""
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
        """Runs the command, which must fail in one line and leave no file behind."""
        before = self.tree()
        with self.assertRaisesRegex(ValueError, message) as context:
            self.infer(*arguments, **settings)
        self.assertNotIn("\n", str(context.exception))
        self.assertEqual(self.tree(), before)
        return str(context.exception)

    def through_pipes(self, data: bytes, output: str = "-", **settings: Any) -> bytes:
        """Runs the command with these bytes on stdin; returns what it wrote to stdout."""
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
