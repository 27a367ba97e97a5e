"""A signal on its way through the encoder."""

from __future__ import annotations

import numpy as np

import encodec_hk
from encodec_hk.blocks import items
from encodec_hk.blocks import scheduler
from encodec_hk.tokens import row_cuts


class SignalEncoder:
    """Encodes a signal that arrives in pieces, beside others.

    Attributes:
      is_done: whether all its codes were taken.
    """

    def __init__(self, codec: encodec_hk.Codec, runner: scheduler.Scheduler):
        framing = codec.framing
        self._samples_of_frame: float = framing.hop
        if framing.has_segments:  # which overlap
            self._samples_of_frame = framing.stride / framing.segment_frames
        self._count = self._frames = 0
        self._parts: list[items.Codes] = []
        self._encoder: items.ItemEncoder | None = None
        self._pieces: list[np.ndarray] = []
        if not codec.takes_whole_items:
            self._encoder = items.ItemEncoder(runner, framing, codec.model_config.normalize)
        self.is_done = False

    @property
    def num_waiting(self) -> float:
        """Samples that were pushed, and whose codes were not taken."""
        return 0 if self._encoder is None else self._count - self._frames * self._samples_of_frame

    def push(self, samples: np.ndarray) -> None:
        """Add samples, float32 [n, C]."""
        self._count += len(samples)
        if self._encoder is None:
            self._pieces.append(samples)
        else:
            self._encoder.push(samples)

    def end(self, codec: encodec_hk.Codec, num_codebooks: int) -> None:
        """End the signal. A model that takes whole items encodes it here."""
        if self._encoder is not None:
            self._encoder.end()
            return
        audio = np.concatenate(self._pieces)
        self._pieces.clear()
        encoded = codec.encode([audio], num_codebooks=num_codebooks)
        scales = None if encoded.scales is None else encoded.scales[0]
        self._parts, self.is_done = [items.Codes(encoded.codes[0], scales)], True

    def collect(self) -> None:
        """Take the codes that are ready."""
        if self._encoder is None or self.is_done:
            return
        parts = self._encoder.take()
        self._frames += sum(part.codes.shape[1] for part in parts)
        self._parts += [part._replace(codes=part.codes.astype(np.int16)) for part in parts]
        self.is_done = self._encoder.is_done

    def result(self) -> row_cuts.Signal:
        """Return the codes."""
        codes = np.concatenate([part.codes for part in self._parts], axis=1)
        scales = [part.scales for part in self._parts if part.scales is not None]
        return row_cuts.Signal(codes, np.concatenate(scales) if scales else None, self._count)

    def drop(self) -> None:
        """Discard the signal."""
        if self._encoder is not None:
            self._encoder.drop()
