"""The network of the package `vocos` with a checkpoint's tensors, beside ours.

Shapes: K codebooks, F frames, D latent channels, T samples.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections
import numpy as np

import encodec_hk
from encodec_hk import config
from encodec_hk.system import extras

_FRAMES = 150  # of random codes, two seconds
_LARGEST = 1e-4  # difference of samples, of full scale or of the largest sample


class VocosComparison(NamedTuple):
    """How far both networks' audio of the same codes agrees, at one bandwidth.

    Attributes:
      kbps: the bandwidth.
      difference: largest difference of a sample; full scale is 1.
      peak: largest sample.
    """

    kbps: float
    difference: float
    peak: float

    @property
    def passed(self) -> bool:
        """Whether the two differ only by rounding."""
        return self.difference <= _LARGEST * max(1.0, self.peak)


class VocosNetwork:
    """Backbone and head of `vocos`."""

    def __init__(
        self, model_config: ml_collections.ConfigDict, tensors: Mapping[str, np.ndarray]
    ) -> None:
        """Build the network of a model config and load a checkpoint's tensors.

        Raises:
          ValueError: if the package is not installed, or the tensors are of another network.
        """
        self._torch = extras.require("torch")
        try:
            models: Any = importlib.import_module("vocos.models")
            heads: Any = importlib.import_module("vocos.heads")
        except ImportError as error:
            raise ValueError(
                f"verify: needs the package vocos, with torchaudio ({error})"
            ) from error
        fields = model_config.vocos
        self._backbone = models.VocosBackbone(
            input_channels=model_config.latent_dim,
            dim=fields.dim,
            intermediate_dim=fields.intermediate,
            num_layers=fields.num_layers,
            adanorm_num_embeddings=len(fields.bandwidths),
        ).eval()
        self._head = heads.ISTFTHead(
            dim=fields.dim, n_fft=fields.n_fft, hop_length=config.hop_length(model_config)
        ).eval()
        for prefix, network in (("backbone.", self._backbone), ("head.", self._head)):
            own = {
                key.removeprefix(prefix): self._torch.from_numpy(np.array(value))
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
            own = {**network.state_dict(), **own}  # the window may be absent
            try:
                network.load_state_dict(own)
            except RuntimeError as error:
                raise ValueError(f"vocos: {error}") from error
        weights = tensors["feature_extractor.codebook_weights"]
        self._codebooks = weights.reshape(model_config.num_codebooks, -1, model_config.latent_dim)

    def decode(self, codes: np.ndarray, norm: int) -> np.ndarray:
        """Decode codes [K, F] with the norms of one of its bandwidths -> audio [T]."""
        latents = sum(self._codebooks[k][row] for k, row in enumerate(codes))
        x = self._torch.from_numpy(np.ascontiguousarray(np.transpose(latents)[None]))
        with self._torch.inference_mode():
            hidden = self._backbone(x, bandwidth_id=self._torch.tensor([norm]))
            audio: np.ndarray = self._head(hidden)[0].numpy()
        return audio


def compare(codec: encodec_hk.Codec, network: VocosNetwork) -> Iterator[VocosComparison]:
    """Decode random codes with both, at each bandwidth that has norms of its own."""
    model_config = codec.model_config
    rng = np.random.default_rng(0)
    for norm, kbps in enumerate(model_config.vocos.bandwidths):
        count = config.num_codebooks_for(model_config, kbps)
        codes = rng.integers(0, model_config.codebook_size, (count, _FRAMES))
        theirs = network.decode(codes, norm)
        ours = codec.decode(codec.encoded(codes[None]))[0, :, 0]
        difference = float(np.abs(ours - theirs).max())
        yield VocosComparison(kbps, difference, float(np.abs(theirs).max()))
