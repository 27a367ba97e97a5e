"""The files of sound or codes that a command reads, and what it writes for each."""

from __future__ import annotations

import collections
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from encodec_hk.sound import sound_files
from encodec_hk.system import file_paths
from encodec_hk.system import file_search
from encodec_hk.transcode import ecdc
from encodec_hk.transcode import options
from encodec_hk.transcode import stdio

_READABLE = sound_files.READABLE | {ecdc.SUFFIX}


class Found(NamedTuple):
    """The files that IN names.

    Attributes:
      files: paths, in alphabetical order.
      root: the folder whose tree the outputs repeat; None if IN is one file.
      is_folder: whether IN is a folder, as opposed to a glob or a file.
      unreadable: "FOLDER: REASON" for each folder that could not be searched.
    """

    files: list[pathlib.Path]
    root: pathlib.Path | None
    is_folder: bool = False
    unreadable: tuple[str, ...] = ()


class Job(NamedTuple):
    """A file to read and the file to write from it; "-" is stdin or stdout."""

    source: pathlib.Path
    target: pathlib.Path

    @property
    def from_stdin(self) -> bool:
        """Whether the source is stdin."""
        return str(self.source) == stdio.NAME

    @property
    def to_stdout(self) -> bool:
        """Whether the target is stdout."""
        return str(self.target) == stdio.NAME


def find(inputs: str, output: str | None = None) -> Found:
    """Find the files that IN names: a file, a glob (`**` matches any folders) or a folder.

    Of a folder or a glob these are the files with a suffix of sound (`sound_files.READABLE`) or
    .ecdc. Hidden files are left out, and so are files below OUT, which an earlier run has written.

    Raises:
      ValueError: if there are none.
    """
    if not inputs:
        raise ValueError("IN: got an empty name")
    if inputs == stdio.NAME:
        if output is None:
            raise ValueError("OUT: got none, must be named if IN is -, such as - for stdout")
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
        suffixes = " ".join(sorted(suffix[1:] for suffix in _READABLE))
        raise ValueError(f"{file_paths.shown(inputs)}: found no sound files ({suffixes})")
    return Found(sorted(files), root, root == path, tuple(unreadable))


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def plan(found: Found, output: str | None, tag: str, options: options.Options) -> list[Job]:
    """Name an output for each input.

    One file goes to OUT, or into OUT if that is a folder; without OUT it goes beside the input, as
    `<stem><tag><suffix>`. The files of a folder or a glob repeat their tree below OUT. Without OUT,
    those of a folder go to `<folder><tag>`, and those of a glob beside each input. If two files
    differ only in their suffix, all but a .wav keep it: `a.mp3.wav`.

    Args:
      found: the inputs.
      output: OUT, if given.
      tag: ends the names of outputs without OUT, such as "_6kbps".
      options: `suffix` and `force` are used.

    Raises:
      ValueError: if OUT must be a folder and is not, or an output would overwrite an input, or the
        file that OUT names exists. (That may be the second of two files to which the shell has
        expanded a pattern.)
    """
    root, suffix = found.root, options.suffix
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
            if folder.is_file() or (not folder.exists() and _names_file(folder)):
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
    if root is None and output is not None and targets[0].is_file() and not options.force:
        raise ValueError(
            f"{file_paths.shown(targets[0])}: exists already; --force overwrites it (and a "
            "pattern must be in quotes)"
        )
    return [Job(*pair) for pair in zip(found.files, targets, strict=True)]


def _names_file(path: pathlib.Path) -> bool:
    return path.suffix.lower() in (*sound_files.WRITABLE, ecdc.SUFFIX)


def _target_of_file(file: pathlib.Path, output: str | None, tag: str, suffix: str) -> pathlib.Path:
    if output is None:
        return file.with_name(f"{file.stem}{tag}{suffix}")
    if os.path.isdir(output) or output.endswith(os.sep):
        return pathlib.Path(output, f"{file.stem}{suffix}")
    return pathlib.Path(output)


def _distinct(
    files: list[pathlib.Path], place: Callable[[pathlib.Path, str], pathlib.Path]
) -> list[pathlib.Path]:
    """Return a different path for each file; `place` makes one from a file and a stem."""
    # Case-insensitive: some file systems do not tell A.wav from a.wav.
    uses = collections.Counter(str(place(file, file.stem)).casefold() for file in files)
    targets: dict[pathlib.Path, None] = {}
    for file in files:
        target = place(file, file.stem)
        if uses[str(target).casefold()] > 1 and file.suffix.lower() != ".wav":
            target = place(file, file.name)
        number = 2
        while target in targets:  # such as a.mp3.wav, if there are a.wav and a.mp3 too
            target = place(file, f"{file.name}_{number}")
            number += 1
        targets[target] = None
    return list(targets)
