"""Which files of sound or codes a command reads, and what it writes for each."""

from __future__ import annotations

import collections
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from encodec_hk.sound import sound_files
from encodec_hk.system import file_paths
from encodec_hk.system import file_search
from encodec_hk.transcode import stdio

CODES = ".ecdc"
_READABLE = sound_files.READABLE | {CODES}


class Found(NamedTuple):
    """Files that a command's IN names.

    Attributes:
      files: in the order of their names.
      root: the folder whose tree the outputs keep; None: IN is one file.
      is_folder: IN is a folder and no glob.
      unreadable: for each folder that could not be searched, its name and the reason.
    """

    files: list[pathlib.Path]
    root: pathlib.Path | None
    is_folder: bool = False
    unreadable: tuple[str, ...] = ()


class Job(NamedTuple):
    """One file to read and one to write."""

    source: pathlib.Path
    target: pathlib.Path


def find(inputs: str, output: str | None = None) -> Found:
    """Finds the files that IN names: a file, a glob (`**` for any folders) or a folder.

    Of folders and globs, files of sound (`audio.READABLE`) and .ecdc files are taken, by their
    suffixes, and no hidden ones, nor those below OUT, which an earlier run has written.

    Raises:
      ValueError: there are none.
    """
    if not inputs:
        raise ValueError("IN: got an empty name")
    if inputs == stdio.NAME:
        if output is None:
            raise ValueError("OUT: got none, must be named where IN is -, such as - for stdout")
        return Found([pathlib.Path(inputs)], None)
    path = pathlib.Path(inputs)
    if path.is_dir():
        root = path
    elif path.exists():
        return Found([path], None)
    elif not _is_pattern(inputs):
        raise ValueError(f"{file_paths.shown(inputs)}: no such file or folder")
    else:
        fixed = [not _is_pattern(part) for part in path.parts]
        root = pathlib.Path(*path.parts[: fixed.index(False)])
    names, unreadable = file_search.find(inputs, _READABLE)
    files = [file for file in map(pathlib.Path, names) if file.is_file()]
    written = pathlib.Path(os.path.realpath(output or root))
    if root.resolve() in written.parents:
        files = [file for file in files if written not in file.resolve().parents]
    if not files and not unreadable:
        raise ValueError(f"{file_paths.shown(inputs)}: found no sound files ({_suffixes()})")
    return Found(sorted(files), root, root == path, tuple(unreadable))


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def _suffixes() -> str:
    return " ".join(sorted(suffix[1:] for suffix in _READABLE))


def plan(
    found: Found, output: str | None, tag: str, force: bool = False, suffix: str = ".wav"
) -> list[Job]:
    """Names an output for each input.

    One file goes to OUT, or into it where it is a folder; without OUT beside the input, as
    `<stem><tag>.wav`. The files of a folder or a glob become .wav files in the same tree below
    OUT, or without OUT: of a folder `<folder><tag>`, of a glob beside each input. Where two files
    differ only in their suffix, all but a .wav keep it: `a.mp3.wav`.

    Args:
      found: of `find`.
      output: OUT of the command line, None without.
      tag: what tells outputs from inputs, such as "_6kbps".
      force: whether OUT may name a file that exists.
      suffix: of outputs that OUT does not name, instead of .wav.

    Raises:
      ValueError: OUT is no folder where one is needed, or an output would overwrite an input, or a
        file that OUT names: a pattern that the shell has expanded to two files looks like that.
    """
    root = found.root
    if output == stdio.NAME:
        if root is not None:
            raise ValueError("OUT: got -, must be a folder, IN names several files")
        return [Job(found.files[0], pathlib.Path(output))]
    if root is None:
        targets = [_target_of_file(found.files[0], output, tag, suffix)]
    elif output is None and not found.is_folder:
        targets = _distinct(found.files, lambda file, stem: file.with_name(f"{stem}{tag}{suffix}"))
    else:
        if output is None:
            named = root if root.name not in ("", "..") else root.resolve()
            folder = named.with_name(named.name + tag)
        else:
            folder = pathlib.Path(output)
            if folder.is_file() or (
                not folder.exists() and folder.suffix.lower() in (*sound_files.WRITABLE, CODES)
            ):
                raise ValueError(
                    f"{file_paths.shown(output)}: must be a folder, IN names several files"
                )
        targets = _distinct(
            found.files,
            lambda file, stem: folder / file.relative_to(root).with_name(f"{stem}{suffix}"),
        )
    inputs = {os.path.realpath(file) for file in found.files}
    for target in targets:
        if os.path.realpath(target) in inputs:
            raise ValueError(f"{file_paths.shown(target)}: is an input, name another OUT")
    if root is None and output is not None and targets[0].is_file() and not force:
        raise ValueError(
            f"{file_paths.shown(targets[0])}: exists already; --force overwrites it (and a "
            "pattern has to be in quotes)"
        )
    return [Job(*pair) for pair in zip(found.files, targets, strict=True)]


def _target_of_file(file: pathlib.Path, output: str | None, tag: str, suffix: str) -> pathlib.Path:
    if output is None:
        return file.with_name(f"{file.stem}{tag}{suffix}")
    if os.path.isdir(output) or output.endswith(os.sep):
        return pathlib.Path(output, f"{file.stem}{suffix}")
    return pathlib.Path(output)


def _distinct(
    files: list[pathlib.Path], place: Callable[[pathlib.Path, str], pathlib.Path]
) -> list[pathlib.Path]:
    """A path of its own for each file; `place` makes one of a file and a stem."""
    # Without case: some file systems take A.wav and a.wav for one.
    uses = collections.Counter(str(place(file, file.stem)).casefold() for file in files)
    targets: dict[pathlib.Path, None] = {}
    for file in files:
        target = place(file, file.stem)
        if uses[str(target).casefold()] > 1 and file.suffix.lower() != ".wav":
            target = place(file, file.name)
        number = 2
        while target in targets:  # such as a.mp3.wav beside a.wav and a.mp3
            target = place(file, f"{file.name}_{number}")
            number += 1
        targets[target] = None
    return list(targets)
