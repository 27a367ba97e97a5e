"""The network of `vocos` for tests, with random weights that make sound of full scale.

network = vocos_references.published()
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import pathlib
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import yaml

from tests import references

RATES = (1.5, 3.0, 6.0, 12.0)  # kbps; 2, 4, 8 and 16 codebooks
HOP, LATENT_DIM, ENTRIES = 320, 128, 1024


@contextlib.contextmanager
def torchaudio() -> Iterator[None]:
    """A stand-in for torchaudio, which vocos imports and does not need here."""
    if "torchaudio" in sys.modules:
        yield
        return
    names = ("torchaudio", "torchaudio.functional", "torchaudio.functional.functional")
    stubs: dict[str, Any] = {name: types.ModuleType(name) for name in names}
    stubs[names[2]]._hz_to_mel = stubs[names[2]]._mel_to_hz = None
    sys.modules.update(stubs)
    try:
        yield
    finally:  # transformers would mistake it for the real torchaudio
        for name in names:
            del sys.modules[name]


@functools.cache
def package(name: str) -> types.ModuleType:
    """Import a module of vocos."""
    references.import_encodec()
    with torchaudio():
        return importlib.import_module(f"vocos.{name}")


class Reference:
    """A `vocos.Vocos` without its feature extractor, and codebooks.

    Attributes:
      config: what `config.yaml` holds.
      bandwidths: kbps of its norms.
    """

    def __init__(self, bandwidths: Sequence[float] = RATES, seed: int = 0, **backbone: int):
        self.bandwidths = tuple(bandwidths)
        sizes = {"dim": 384, "intermediate_dim": 1152, "num_layers": 8, **backbone}
        arguments = {
            "feature_extractor": {
                "encodec_model": "encodec_24khz",
                "bandwidths": list(bandwidths),
                "train_codebooks": False,
            },
            "backbone": {
                "input_channels": LATENT_DIM,
                **sizes,
                "adanorm_num_embeddings": len(bandwidths),
            },
            "head": {"dim": sizes["dim"], "n_fft": 4 * HOP, "hop_length": HOP, "padding": "same"},
        }
        classes = {
            "feature_extractor": "vocos.feature_extractors.EncodecFeatures",
            "backbone": "vocos.models.VocosBackbone",
            "head": "vocos.heads.ISTFTHead",
        }
        self.config = {
            name: {"class_path": classes[name], "init_args": arguments[name]} for name in classes
        }
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            self.network = package("pretrained").Vocos(
                torch.nn.Identity(),
                package("models").VocosBackbone(**arguments["backbone"]),
                package("heads").ISTFTHead(**arguments["head"]),
            )
            self.network.eval().requires_grad_(False)
            count = round(max(bandwidths) / 0.75)
            scale = 0.85 ** torch.arange(count)[:, None, None]
            self.codebooks = scale * torch.randn(count, ENTRIES, LATENT_DIM)
            self._condition()

    def _condition(self) -> None:
        """Make every part of the network count: norms differ, biases are not zero."""
        for name, value in self.network.named_parameters():
            if name.endswith("scale.weight"):
                value.uniform_(0.6, 1.4)
            elif name.endswith(("shift.weight", "bias")):
                value.normal_(0, 0.1)
            elif name.endswith("gamma"):
                value.uniform_(-0.6, 0.6)
            elif value.ndim > 1:
                value.mul_((value[0].numel() ** -0.5) / value.std())
        out = self.network.head.out
        half = len(out.bias) // 2
        out.weight[half:] *= 2  # phases of more than a turn
        out.bias[half:].uniform_(-4, 4)
        out.bias[3] = 20  # beyond the largest magnitude
        codes = np.random.default_rng(0).integers(0, ENTRIES, (len(self.codebooks), 50))
        audio = self.decode(codes, len(self.bandwidths) - 1)
        out.bias[:half] -= float(np.log(audio.std() / 0.15))
        out.bias[3] = 20 if len(out.bias) > 1000 else out.bias[3]

    def decode(self, codes: np.ndarray, norm: int) -> np.ndarray:
        """The audio [T] of codes [K, F] by the norms of a bandwidth, numbered from 0."""
        latents = sum(self.codebooks[k][torch.from_numpy(row)] for k, row in enumerate(codes))
        with torch.inference_mode():
            audio = self.network.decode(latents.T[None], bandwidth_id=torch.tensor([norm]))
        return audio[0].numpy()

    def state(self) -> dict[str, torch.Tensor]:
        """The tensors of a published file."""
        flat = self.codebooks.reshape(-1, LATENT_DIM)
        return {"feature_extractor.codebook_weights": flat, **self.network.state_dict()}

    def save(self, folder: pathlib.Path) -> pathlib.Path:
        """Write `config.yaml` and `pytorch_model.bin`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(self.config))
        torch.save(self.state(), folder / "pytorch_model.bin")
        return folder


@functools.cache
def published() -> Reference:
    """A network of the published sizes."""
    return Reference()


@functools.cache
def small() -> Reference:
    """A network of small sizes, of two and four codebooks."""
    return Reference(RATES[:2], dim=24, intermediate_dim=40, num_layers=2)
