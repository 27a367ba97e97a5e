"""Rows of a data set of codes to sound files, several at a time, at constant memory.

The rows share a scheduler of the codec: as one ends, the next takes its place in the blocks.

Shapes: K codebooks, F frames.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

import encodec_hk
from encodec_hk.blocks import checks
from encodec_hk.blocks import items
from encodec_hk.blocks import scheduler
from encodec_hk.sound import file_formats
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.system import interruption
from encodec_hk.system import rules
from encodec_hk.tokens import token_rows
from encodec_hk.transcode import outputs

_NAME_BYTES = 120  # of a part of a file's name, so that a suffix and a hash fit in 255


@dataclasses.dataclass(frozen=True)
class DetokenizeOptions:
    """Which rows to decode, and how to write them.

    Attributes:
      ids: of rows, or of items, which end before the # in the IDs of their rows; None for all.
      limit: rows at most, the first ones; None for all.
      suffix: of the files.
      sample_format: a name of `file_formats.SAMPLE_FORMATS`.
      rescale: scale a file that exceeds full scale, instead of clipping it.
      force: replace files that exist.

    Raises:
      ValueError: if a value is not allowed.
    """

    ids: Sequence[str] | None = None
    limit: int | None = None
    suffix: str = ".wav"
    sample_format: str = "int16"
    rescale: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "suffix", self.suffix.lower())
        for name, allowed in (
            ("suffix", tuple(file_formats.WRITABLE)),
            ("sample_format", tuple(file_formats.SAMPLE_FORMATS)),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise rules.error(f"--{name}", value, f"one of {', '.join(allowed)}")
        if self.limit is not None and self.limit < 1:
            raise rules.error("--limit", self.limit, "a whole number above 0")


class RowJob(NamedTuple):
    """A row and the file to write from it."""

    row: int
    id: str
    target: pathlib.Path


class RowResult(NamedTuple):
    """The end of a job.

    Attributes:
      job: the job.
      seconds: of sound that were written.
      warnings: one line each.
      error: why the job failed; None if it succeeded.
    """

    job: RowJob
    seconds: float = 0.0
    warnings: Sequence[str] = ()
    error: ValueError | None = None


class Detokenizer:
    """Decodes the rows of a data set.

    Attributes:
      rows: the data set.
      jobs: what to decode.
      kept: files that exist already and stay as they are.
    """

    def __init__(
        self,
        rows: token_rows.TokenRows,
        folder: str | os.PathLike[str],
        options: DetokenizeOptions,
    ):
        """Choose the rows and name their files, `file_name` of their ids.

        Args:
          rows: the data set.
          folder: where to write; it is made if it does not exist.
          options: which rows, and how to write them.

        Raises:
          ValueError: if an id is not in the data set, `folder` is a file, or the file of a single
            row exists.
        """
        self.rows = rows
        self._folder = pathlib.Path(folder)
        self._options = options
        if self._folder.is_file():
            raise ValueError(f"{file_paths.shown(folder)}: is a file, FOLDER must be a folder")
        chosen = list(self._choose())
        jobs = [RowJob(row, id, self._folder / file_name(id, options.suffix)) for row, id in chosen]
        self.kept = [] if options.force else [job.target for job in jobs if job.target.is_file()]
        if self.kept and len(jobs) == 1:
            raise ValueError(
                f"{file_paths.shown(self.kept[0])}: exists already; --force replaces it"
            )
        untouched = set(self.kept)
        self.jobs = [job for job in jobs if job.target not in untouched]

    def run(self, codec: encodec_hk.Codec, settle: Callable[[RowResult], None]) -> None:
        """Decode the rows in the order of the data set.

        Args:
          codec: the codec that made the codes; see `check_codec`.
          settle: called with the result of each job. If it raises, the others are aborted.

        Raises:
          ValueError: if the codec is another one.
        """
        check_codec(self.rows, codec)
        waiting = iter(self.jobs)
        places = codec.places(max(len(self.jobs), 1))
        shared = codec.runner(codec.decoder_program(), places)
        at_work: list[_Decoding] = []
        try:
            while True:
                while sum(not each.is_read for each in at_work) < places:
                    job = next(waiting, None)
                    if job is None:
                        break
                    try:
                        at_work.append(self._begin(job, codec, shared))
                    except ValueError as error:
                        settle(RowResult(job, error=error))
                if not at_work:
                    return
                interruption.check()
                for each in at_work:
                    each.read()
                for runner in dict.fromkeys(each.runner for each in at_work):
                    runner.advance()
                for each in list(at_work):
                    result = each.write()
                    if result is not None:
                        at_work.remove(each)
                        settle(result)
        finally:
            for each in at_work:
                each.abort()

    def _choose(self) -> Iterator[tuple[int, str]]:
        """Yield the rows that the options name, and their ids, in the order of the data set."""
        limit = self._options.limit
        ids = None if self._options.ids is None else set(self._options.ids)
        found: set[str] = set()
        count = 0
        for row, id in enumerate(self.rows.ids()):
            if limit is not None and count >= limit:
                return
            if ids is not None:
                own = {id, id.rpartition("#")[0]} & ids
                found |= own
                if not own:
                    continue
            count += 1
            yield row, id
        if missing := sorted((ids or set()) - found):
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise ValueError(f"--ids: got {shown}, must be IDs of the data set")

    def _begin(
        self, job: RowJob, codec: encodec_hk.Codec, shared: scheduler.Scheduler
    ) -> _Decoding:
        """Open the file of a job; raises ValueError if that fails or the row is damaged."""
        row = self.rows[job.row]
        name = f"row {job.id}"
        num_samples = row["num_samples"]
        frames = codec.framing.num_frames(num_samples)
        if frames > row["codes"].shape[1]:
            held = row["codes"].shape[1]
            raise ValueError(f"{name}: got {held} frames, {num_samples} samples have {frames}")
        # A row that its source goes on after ends with a whole segment, of which `num_samples`
        # counts what the next one does not repeat.
        codes = row["codes"][:, :frames]
        checks.code_range(codes, name, codec.model_config)
        runner = shared
        if codec.takes_whole_items:
            [runner] = codec.runners(codec.decoder_program(), [frames])
        channels = codec.channels if row["channel"] < 0 else 1
        options = self._options
        with file_errors.as_value_error(job.target.parent):
            job.target.parent.mkdir(parents=True, exist_ok=True)
        writer = sound_files.SoundWriter(
            job.target, codec.sample_rate, channels, options.sample_format, num_samples
        )
        target = outputs.SoundOut(
            writer,
            resampling.Resampler(codec.sample_rate, codec.sample_rate, codec.channels),
            channels,
            clips=not file_formats.holds_any_value(job.target, options.sample_format),
            rescale=options.rescale,
        )
        decoder = items.ItemDecoder(runner, codec.framing, codec.channels)
        seconds = num_samples / codec.sample_rate
        pieces = collections.deque(
            codes[:, start : start + codec.block_frames]
            for start in range(0, frames, codec.block_frames)
        )
        end = functools.partial(decoder.end, num_samples)
        scales = row.get("scales")
        return _Decoding(job, runner, decoder, target, pieces, scales, end, seconds)


class _Decoding:
    """A job in work.

    Attributes:
      is_read: whether the decoder has all codes of the row.
    """

    def __init__(
        self,
        job: RowJob,
        runner: scheduler.Scheduler,
        decoder: items.ItemDecoder,
        target: outputs.SoundOut,
        pieces: collections.deque[np.ndarray],
        scales: np.ndarray | None,
        end: Callable[[], None],
        seconds: float,
    ):
        self.job, self.runner = job, runner
        self.is_read = False
        self._decoder = decoder
        self._target = target
        self._pieces = pieces
        self._scales = scales
        self._end = end
        self._seconds = seconds

    def read(self) -> None:
        """Hand codes to the decoder, about a second of them."""
        if self.is_read:
            return
        if self._pieces:
            self._decoder.push(self._pieces.popleft(), self._scales)
            self._scales = None
        if not self._pieces:
            self._end()
            self.is_read = True

    def write(self) -> RowResult | None:
        """Write the sound that is ready; return the result once the file is complete or failed."""
        try:
            self._target.write(self._decoder.take())
            if not self._decoder.is_done:
                return None
            self._target.finish(None)
        except ValueError as error:
            self.abort()
            return RowResult(self.job, error=error)
        shown = file_paths.shown(self.job.target)
        warnings = [f"{shown}: {warning}" for warning in self._target.warnings]
        return RowResult(self.job, self._seconds, warnings)

    def abort(self) -> None:
        """Delete the file and discard what is in the scheduler."""
        self._target.abort()
        self._decoder.drop()


def check_codec(rows: token_rows.TokenRows, codec: encodec_hk.Codec) -> None:
    """Raise ValueError if a codec is not for the codes of a data set.

    A decoder that was converted alone knows the name of the model that makes its codes, and not its
    fingerprint: it is for every data set of that name.
    """
    info, own = rows.info, codec.codes_of
    file = file_paths.shown(rows.paths[0])
    is_same, made_with, here = info.checkpoint == own.name, info.checkpoint, own.name
    if own.fingerprint is not None:
        is_same = info.fingerprint == own.fingerprint
        made_with += f" (fingerprint {info.fingerprint[:16]})"
        here += f" ({own.fingerprint[:16]})"
    if not is_same:
        raise ValueError(
            f"{file}: made with {made_with}, the checkpoint here is {here}; "
            "--checkpoint=FILE names another"
        )
    for name in ("sample_rate", "channels", "hop_length"):
        given, wanted = getattr(info, name), getattr(codec, name)
        if given != wanted:
            raise ValueError(f"{file}: made with {name} {given}, the checkpoint here has {wanted}")


def file_name(id: str, suffix: str) -> str:
    """Return a path below a folder for a row's id: `speaker/clip` becomes `speaker/clip.wav`.

    What a file system may not allow, and what would lead out of the folder or hide the file,
    becomes an underscore, and long names are cut; a hash of the id then keeps names different.
    """
    parts = [_safe(part) for part in id.split("/") if part] or ["_"]
    name = "/".join(parts)
    if name != id:
        name += "-" + hashlib.sha256(id.encode()).hexdigest()[:12]
    return name + suffix


def _safe(part: str) -> str:
    part = re.sub(r"[^\w\-.,+=@#() ]|^[. ]|[. ]$", "_", part)
    return part.encode()[:_NAME_BYTES].decode(errors="ignore")
