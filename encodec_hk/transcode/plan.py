"""What to transcode: the files of sound or codes to read, what to write for each, and how."""

from __future__ import annotations

import collections
import dataclasses
import glob
import itertools
import os
import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

from encodec_hk.sound import file_formats
from encodec_hk.sound import foreign_formats
from encodec_hk.sound import pcm
from encodec_hk.system import file_paths
from encodec_hk.transcode import ecdc
from encodec_hk.transcode import stdio

READABLE = file_formats.READABLE | {ecdc.SUFFIX}
WRITABLE = (*file_formats.WRITABLE, ecdc.SUFFIX)
ENTROPIES = ("auto", "none", "language", "meta")
# The stems of outputs beside their inputs; see `Transcoder`.
_OUTPUT = re.compile(r"(.+)_([\d.]+kbps|\d+codebooks|decoded|copy)")


@dataclasses.dataclass(frozen=True)
class Options:
    """How to transcode files.

    Attributes:
      bandwidth: kbps; None for the codec's default, or for all codebooks of an .ecdc file.
      num_codebooks: the bandwidth as a number of codebooks; one of both is None.
      sample_format: the format of sound files, a name of `file_formats.SAMPLE_FORMATS`.
      rescale: scale an output that exceeds full scale, instead of clipping it.
      force: replace outputs that exist.
      suffix: the suffix of outputs that OUT does not name, and the format on stdout and pipes.
      format: the version of .ecdc files, "v0" or "v1"; None for the source's version if codes are
        copied, for version 1 if a language model for it is named, else for that of `ecdc.header`.
      entropy: how codes are stored, a name of `ENTROPIES`: "language" with the language model of
        the codec, "none" without, "auto" with it if there is one and the file can have it, "meta"
        with Meta's.
      language_kind: the name in `ENTROPIES` that the given language model is for; None for none.
      recover: decode damaged blocks of .ecdc files as silence, and read sound that is cut off.
      raw_rate: Hz of headerless samples on pipes; None for WAV there.
      raw_channels: channels of headerless samples.
      raw_format: the format of headerless samples, a name of `pcm.RAW_FORMATS`.

    Raises:
      ValueError: if a value is not allowed.
    """

    bandwidth: float | None = None
    num_codebooks: int | None = None
    sample_format: str = "int16"
    rescale: bool = False
    force: bool = False
    suffix: str = ".wav"
    format: str | None = None
    entropy: str = "auto"
    language_kind: str | None = None
    recover: bool = False
    raw_rate: int | None = None
    raw_channels: int = 1
    raw_format: str = "s16le"

    def __post_init__(self) -> None:
        object.__setattr__(self, "suffix", self.suffix.lower())
        if self.bandwidth is not None and self.num_codebooks is not None:
            raise ValueError("bandwidth and num_codebooks: got both, must be one of them")
        for name, allowed in (
            ("sample_format", tuple(file_formats.SAMPLE_FORMATS)),
            ("suffix", WRITABLE),
            ("raw_format", tuple(pcm.RAW_FORMATS)),
            ("entropy", ENTROPIES),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"--{name}: got {value!r}, must be one of {', '.join(allowed)}")
        if self.entropy == "meta" and self.language_kind != "meta":
            raise ValueError(
                "--entropy=meta: needs --language=FILE, a language model of Meta's that `convert` "
                "has made" + ("; got one for --entropy=language" if self.language_kind else "")
            )
        if self.entropy == "language" and self.language_kind == "meta":
            raise ValueError(
                "--entropy=language: needs a language model that `train_language` has written; "
                "--language names one for --entropy=meta"
            )
        for name in ("raw_rate", "raw_channels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name}: got {value}, must be a whole number above 0")

    @property
    def wants_language(self) -> bool:
        """Whether new files should have a language model of version 1, if it is for their codes."""
        is_named = self.entropy == "auto" and self.language_kind == "language"
        return is_named or self.entropy == "language"

    @property
    def version(self) -> int | None:
        """The version of .ecdc files; None as in `format`."""
        return None if self.format is None else int(self.format.removeprefix("v"))

    @property
    def raw(self) -> pcm.Format | None:
        """The format of headerless samples on pipes; None for WAV there."""
        if self.raw_rate is None:
            return None
        return pcm.Format(self.raw_rate, self.raw_channels, self.raw_format)

    def suffix_of(self, target: pathlib.Path) -> str:
        """Return the suffix that says what to write to a target."""
        suffix = target.suffix.lower()
        return suffix or self.suffix if stdio.is_pipe(target) else suffix

    def check_names(self, inputs: str, output: str | None) -> None:
        """Raise ValueError if an option does not fit a pipe as IN or OUT, or files."""
        to_pipe = output is not None and stdio.is_pipe(output)
        if self.raw_rate is not None and not to_pipe and not stdio.is_pipe(inputs):
            raise ValueError(
                f"--raw_rate: got {self.raw_rate}, must be with - or another pipe as IN or OUT"
            )
        if output is None or not to_pipe:
            return
        name = "stdout" if output == stdio.NAME else "a pipe"
        suffix = self.suffix_of(pathlib.Path(output))
        if suffix not in (".wav", ecdc.SUFFIX):
            what = file_paths.shown(output) if pathlib.Path(output).suffix else "--suffix"
            raise ValueError(f"{what}: got {suffix!r}, must be .wav or .ecdc on {name}")
        if self.rescale:
            raise ValueError(
                f"--rescale: got True, must be False on {name}, which is written before the peak "
                "is known"
            )


class Found(NamedTuple):
    """The files that IN names.

    Attributes:
      files: in alphabetical order.
      root: the folder whose tree the outputs repeat; None if IN is one file.
      is_folder: whether IN is a folder, as opposed to a glob or a file.
      unreadable: "PATH: REASON" for each folder that could not be searched, and each file of a
        format that libsndfile does not read.
      earlier: files that are left out because an earlier run seems to have written them.
    """

    files: list[pathlib.Path]
    root: pathlib.Path | None
    is_folder: bool = False
    unreadable: tuple[str, ...] = ()
    earlier: tuple[pathlib.Path, ...] = ()


class Job(NamedTuple):
    """A file to read and the file to write from it; either may be a pipe, "-" above all."""

    source: pathlib.Path
    target: pathlib.Path

    @property
    def from_pipe(self) -> bool:
        """Whether the source is stdin or another pipe."""
        return stdio.is_pipe(self.source)

    @property
    def to_pipe(self) -> bool:
        """Whether the target is stdout or another pipe."""
        return stdio.is_pipe(self.target)


def find(inputs: str, output: str | None = None, suffix: str = ".wav") -> Found:
    """Find the files that IN names: a file, a glob (`**` matches any folders) or a folder.

    Of a folder or a glob these are the files with a suffix of sound (`file_formats.READABLE`) or
    .ecdc. Hidden files are left out, and so are files below OUT, which an earlier run has written.
    Without OUT, so are files that are named like outputs of others: a_6kbps.wav beside a.wav. Codes
    count as outputs only where the `suffix` of this run's outputs is .ecdc: else they are decoded.

    Raises:
      ValueError: if there are none.
    """
    if not inputs:
        raise ValueError("IN: got an empty name")
    if output is None and (stdio.is_pipe(inputs) or inputs in stdio.STDIN):
        name = file_paths.shown(inputs)
        raise ValueError(f"OUT: got none, must be named if IN is {name}, such as - for stdout")
    if stdio.is_pipe(inputs):
        return Found([pathlib.Path(inputs)], None)
    path = pathlib.Path(inputs)
    if path.is_dir():
        root = path
    elif path.exists():
        return Found([path], None)
    elif not glob.has_magic(inputs):
        raise ValueError(f"{file_paths.shown(inputs)}: no such file or folder")
    else:
        root = pathlib.Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    names, unreadable = file_paths.find(inputs, READABLE | foreign_formats.SUFFIXES)
    files = sorted(file for file in map(pathlib.Path, names) if file.is_file())
    written = pathlib.Path(os.path.realpath(output or root))
    if root.resolve() in written.parents:
        files = [file for file in files if written not in file.resolve().parents]
    foreign = [file for file in files if file.suffix.lower() in foreign_formats.SUFFIXES]
    unreadable += map(foreign_formats.message, foreign)
    written_suffixes = WRITABLE if suffix == ecdc.SUFFIX else tuple(file_formats.WRITABLE)
    earlier = [] if output else _earlier_outputs(files, written_suffixes)
    left_out = {*foreign, *earlier}
    files = [file for file in files if file not in left_out]
    if not files and not unreadable:
        suffixes = " ".join(sorted(suffix[1:] for suffix in READABLE))
        raise ValueError(f"{file_paths.shown(inputs)}: found no sound files ({suffixes})")
    return Found(files, root, root == path, tuple(unreadable), tuple(earlier))


def _earlier_outputs(files: list[pathlib.Path], suffixes: tuple[str, ...]) -> list[pathlib.Path]:
    """Return the files with one of these suffixes that `plan` names so for others among them."""
    sources = {file.with_name(name) for file in files for name in (file.stem, file.name)}
    earlier = []
    for file in files:
        match = _OUTPUT.fullmatch(file.stem)
        if match is None or file.suffix.lower() not in suffixes:
            continue
        numbered = re.sub(r"_\d+$", "", match[1])  # see `_distinct`
        if not sources.isdisjoint(map(file.with_name, (match[1], numbered))):
            earlier.append(file)
    return earlier


def plan(
    found: Found, output: str | None, tag: str, options: Options
) -> tuple[list[Job], list[pathlib.Path]]:
    """Name an output for each input.

    One file goes to OUT, or into OUT if that is a folder; without OUT it goes beside the input, as
    `<stem><tag><suffix>`. The files of a folder or a glob repeat their tree below OUT. Without OUT,
    those of a folder go to `<folder><tag>`, and those of a glob beside each input. If two files
    differ only in their suffix, all but a .wav keep it: `a.mp3.wav`.

    Returns:
      The jobs, and the outputs that exist already: unless `options.force`, they stay as they are,
      so that the same command goes on with what is missing.

    Raises:
      ValueError: if OUT must be a folder and is not, or an output would overwrite an input, or the
        output of one file exists. (With OUT, that may be the second of two files to which the shell
        has expanded a pattern.)
    """
    root, suffix = found.root, options.suffix
    if output is not None and stdio.is_pipe(output):
        if root is not None:
            name = file_paths.shown(output)
            raise ValueError(f"OUT: got {name}, must be a folder, IN names several files")
        return [Job(found.files[0], pathlib.Path(output))], []
    folder = None if output is None else pathlib.Path(output)
    if root is not None and folder is not None:
        names_file = folder.suffix.lower() in WRITABLE
        if folder.is_file() or (names_file and not folder.exists()):
            raise ValueError(
                f"{file_paths.shown(folder)}: must be a folder, IN names several files"
            )
    elif root is not None and found.is_folder:
        named = root if root.name not in ("", "..") else root.resolve()
        folder = named.with_name(named.name + tag)

    def place(file: pathlib.Path, stem: str) -> pathlib.Path:
        if folder is None:
            return file.with_name(f"{stem}{tag}{suffix}")
        if root is None and not (folder.is_dir() or str(output).endswith(os.sep)):
            return folder  # the file that OUT names
        return folder / file.relative_to(root or file.parent).with_name(f"{stem}{suffix}")

    targets = _distinct(found.files, place)
    inputs = {os.path.realpath(file) for file in found.files}
    for target in targets:
        if os.path.realpath(target) in inputs:
            raise ValueError(f"{file_paths.shown(target)}: is an input, name another OUT")
    kept = [] if options.force else [target for target in targets if target.is_file()]
    if kept and root is None:
        hint = "" if output is None else " (and a pattern must be in quotes)"
        raise ValueError(f"{file_paths.shown(kept[0])}: exists already; --force replaces it{hint}")
    jobs = map(Job, found.files, targets)
    untouched = set(kept)
    return [job for job in jobs if job.target not in untouched], kept


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
