"""Meta's program in tests: a stand-in for its codec, and random language models."""

import functools
import hashlib
import importlib
import io
import pathlib
from unittest import mock

import numpy as np
import torch

from encodec_hk import bitstream
from tests import bitstream_files as files
from tests import references


class Network:
    """A model for `encodec.compress` that encodes to given codes and keeps what it decodes."""

    def __init__(self, like, codes=None, scales=None, language=None):
        self.name = like.name
        self.sample_rate = like.sample_rate
        self.frame_rate = like.frame_rate
        self.segment_length = like.segment_length
        self.segment_stride = like.segment_stride
        self.normalize = like.normalize
        self.bits_per_codebook = like.bits
        self._like, self._codes, self._scales = like, codes, scales
        self._language = language

    def get_lm_model(self):
        return self._language

    def to(self, device):
        del device
        return self

    def encode(self, wav):
        codes = torch.from_numpy(self._codes.astype(np.int64))[None]
        if self.segment_length is None:
            return [(codes, None)]
        counts = files.segment_frames(self._like, wav.shape[-1])
        scales = torch.from_numpy(self._scales).view(-1, 1)
        return list(zip(codes.split(counts, dim=2), scales, strict=True))

    def decode(self, frames):
        self.frames = [codes[0].numpy() for codes, _ in frames]
        self.scales = [None if scale is None else scale.item() for _, scale in frames]
        return torch.zeros(1, 1, self._like.num_samples)


def compress():
    references.import_encodec()
    return importlib.import_module("encodec.compress")


def binary():
    references.import_encodec()
    return importlib.import_module("encodec.binary")


@functools.cache
def language(name):
    """Return a language model of Meta's own class; its probabilities are not nearly uniform."""
    references.import_encodec()
    like = bitstream.META_MODELS[name]
    torch.manual_seed(0)
    model = importlib.import_module("encodec.model").LMModel(
        like.num_codebooks, 1024, num_layers=5, dim=200, past_context=int(3.5 * like.frame_rate)
    )
    with torch.no_grad():
        for head in model.linears:
            head.weight.mul_(8)
    return model.eval()


def save_language(folder, name):
    """Write a checkpoint as Meta publishes it; its name has digits of its SHA-256."""
    file = io.BytesIO()
    torch.save(language(name).state_dict(), file)
    digits = hashlib.sha256(file.getvalue()).hexdigest()[:8]
    path = pathlib.Path(folder, f"{name.replace('_', '_lm_', 1)}-{digits}.th")
    path.write_bytes(file.getvalue())
    return path


def likely_codes(name, num_codebooks, num_frames, seed=0):
    """Return codes that the language model takes for likely, int32 [K, F]."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1024, (num_codebooks, num_frames), dtype=np.int32)
    return np.where(rng.random(codes.shape) < 0.7, codes[:, :1], codes)


def write_with_language(like, codes, scales):
    """Return the bytes of Meta's program for codes."""
    file = io.BytesIO()
    network = Network(like, codes, scales, language(like.name))
    wav = torch.zeros(1, like.num_samples)
    compress().compress_to_file(network, wav, file, use_lm=True)
    return file.getvalue()


def read_with_language(data, like):
    """Return the codes [K, F] and the scales that Meta's program reads."""
    network = Network(like, language=language(like.name))
    with mock.patch.dict(compress().MODELS, {like.name: lambda: network}):
        compress().decompress(data)
    return np.concatenate(network.frames, axis=1), network.scales
