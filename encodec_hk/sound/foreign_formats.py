"""Sound and video that libsndfile does not read, and what converts it."""

from __future__ import annotations

import os
import pathlib
import shlex

from encodec_hk.system import file_paths

SUFFIXES = frozenset({
    ".3ga", ".3gp", ".aac", ".ac3", ".adts", ".amr", ".ape", ".asf", ".avi", ".dff", ".dsf", ".dts",
    ".eac3", ".flv", ".m2ts", ".m4a", ".m4b", ".m4r", ".m4v", ".mka", ".mkv", ".mov", ".mp4",
    ".mpc", ".mpeg", ".mpg", ".mts", ".ogv", ".ra", ".rm", ".spx", ".tak", ".tta", ".webm", ".weba",
    ".wma", ".wmv", ".wv",
})  # fmt: skip
"""Suffixes of such files, to name those that are found in folders."""

_SIGNATURES = (  # offset, bytes, name
    (4, b"ftyp", "MP4"),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "WMA"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"\x0bw", "AC-3"),
    (0, b"#!AMR", "AMR"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
)


def message(path: str | os.PathLike[str]) -> str:
    """Return one line for a file with a suffix of `SUFFIXES`."""
    return _message(path, pathlib.Path(path).suffix.lower())


def recognise(path: str | os.PathLike[str], start: bytes) -> str | None:
    """Return one line for a file that libsndfile could not read; None for an unknown format.

    `start` are its first bytes: the suffix may be that of another format.
    """
    for offset, signature, name in _SIGNATURES:
        if start[offset:].startswith(signature):
            suffix = pathlib.Path(path).suffix.lower()
            return _message(path, suffix if suffix in SUFFIXES else name)
    return message(path) if pathlib.Path(path).suffix.lower() in SUFFIXES else None


def _message(path: str | os.PathLike[str], format: str) -> str:
    shown, target = file_paths.shown(path), pathlib.Path(path).with_suffix(".wav")
    if target == pathlib.Path(path):
        target = target.with_stem(f"{target.stem}_converted")
    command = f"ffmpeg -i {shlex.quote(shown)} {shlex.quote(file_paths.shown(target))}"
    return f"{shown}: libsndfile does not read {format}; ffmpeg converts it ({command})"
