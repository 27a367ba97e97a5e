"""The codes that a language model is trained on: made once from sound, and kept in a file.

Shapes: K codebooks, F frames.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import safetensors
import safetensors.numpy

import encodec_hk
from encodec_hk.sound import sound_files
from encodec_hk.system import part_file
from encodec_hk.training import sound_index
from encodec_hk.transcode import inputs

_SECONDS = 60  # of sound encoded at once: bounds the memory
_BATCH = 16  # such pieces

Rows = list[np.ndarray]
"""Codes int32 [K, F] of pieces of sound, or of segments."""


def load(
    path: pathlib.Path,
    codec: encodec_hk.Codec,
    pattern: str,
    num_codebooks: int,
    report: Callable[[str], None],
) -> Rows:
    """Return the codes of a folder or glob of sound, from the file `path` if it has them.

    Files that cannot be read are reported and left out. The folder of `path` is made.

    Raises:
      ValueError: if there is no sound, or the file has codes of another codec or folder.
    """
    wanted = {
        "codec": str(codec.codes_of.fingerprint),
        "sound": pattern,
        "num_codebooks": str(num_codebooks),
    }
    if path.is_file():
        return _read(path, wanted)
    rows = _make(codec, pattern, num_codebooks, report)
    tensors = {
        "codes": np.concatenate(rows, axis=1).astype(np.uint16),
        "frames": np.array([row.shape[1] for row in rows], np.int32),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part_file.write(path, safetensors.numpy.save(tensors, metadata=wanted))
    return rows


def _read(path: pathlib.Path, wanted: dict[str, str]) -> Rows:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            found = dict(file.metadata() or {})
            codes, frames = file.get_tensor("codes"), file.get_tensor("frames")
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ValueError(
                f"{path}: holds codes with {name} {found.get(name)!r}, this run has {value!r}; "
                "take another --workdir"
            )
    return np.split(codes.astype(np.int32), np.cumsum(frames)[:-1], axis=1)


def _make(
    codec: encodec_hk.Codec, pattern: str, num_codebooks: int, report: Callable[[str], None]
) -> Rows:
    rows: Rows = []
    pieces: list[np.ndarray] = []

    def flush() -> None:
        if pieces:
            encoded = codec.encode(pieces, num_codebooks=num_codebooks)
            for codes, frames, samples in zip(
                np.asarray(encoded.codes), encoded.num_frames, encoded.num_samples, strict=True
            ):
                rows.extend(_segments(codes[:, :frames], codec, int(samples)))
        pieces.clear()

    files = sound_index.scan(pattern)
    for number, sound in enumerate(files, 1):
        try:
            found = _pieces(sound.path, codec)
        except ValueError as error:  # one bad file must not end a run of hours
            report(f"{error}; the file is left out")
            continue
        for piece in found:
            pieces.append(piece)
            if len(pieces) == _BATCH:
                flush()
        if number % 100 == 0:
            report(f"codes of {number} of {len(files)} files")
    flush()
    if not rows:
        raise ValueError(f"{pattern}: found no sound")
    return rows


def _pieces(path: str, codec: encodec_hk.Codec) -> list[np.ndarray]:
    """Return the sound of a file, float32 [T, C] at the codec's rate, in pieces of a minute."""
    source = inputs.SoundIn(
        sound_files.SoundReader(path),
        codec.sample_rate,
        codec.channels,
        size=_SECONDS * codec.sample_rate,
        is_live=False,
    )
    found, is_last = [], False
    try:
        while not is_last:
            piece, is_last = source.take()
            if len(piece):
                found.append(piece)
    finally:
        source.close()
    return found


def _segments(codes: np.ndarray, codec: encodec_hk.Codec, num_samples: int) -> Rows:
    """Cut codes [K, F] where segments begin: a language model sees one block at a time."""
    framing = codec.framing
    if not framing.has_segments:
        return [codes]
    count = framing.num_segments(num_samples)
    frames = [framing.frames_of(index, num_samples) for index in range(count)]
    return np.split(codes, np.cumsum(frames)[:-1], axis=1)
