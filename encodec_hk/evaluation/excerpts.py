"""Excerpts of some files and of their renditions, kept in a folder for the report.

They are 16 bit FLAC files: so a run that goes on has those of the rows that it does not do again.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import collections
import hashlib
import pathlib
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from encodec_hk.evaluation import coders
from encodec_hk.evaluation import results
from encodec_hk.evaluation import selection
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files

SECONDS = 10.0  # of an excerpt, at most: the middle of a longer file


def choose(found: Sequence[selection.EvaluationFile], count: int) -> list[selection.EvaluationFile]:
    """`count` files at most, in turn from every group."""
    groups = collections.defaultdict(list)
    for source in found:
        groups[source.group].append(source)
    turns = [
        (turn, group, source)
        for group, members in groups.items()
        for turn, source in enumerate(members)
    ]
    chosen = sorted(turns, key=lambda entry: entry[:2])[:count]
    return [source for *_, source in chosen]


def middle(samples: np.ndarray, sample_rate: int, seconds: float = SECONDS) -> np.ndarray:
    """The middle of a signal [T, C]: at most so many seconds."""
    length = round(seconds * sample_rate)
    start = max(0, (len(samples) - length) // 2)
    return samples[start : start + length]


class ExcerptStore:
    """The excerpts of a run."""

    def __init__(self, folder: pathlib.Path, files: Collection[str]):
        """Begins; the folder is made when something is kept.

        Args:
          folder: where to keep excerpts.
          files: names of the files, as in rows, of which to keep some.
        """
        self._folder = folder
        self._files = frozenset(files)

    def lacks(self, source: selection.EvaluationFile, coder: coders.Coder, key: str) -> bool:
        """Whether an excerpt should be there, of a row or of its original, and is not."""
        if source.file not in self._files:
            return False
        original = self._original(source, (coder.sample_rate, coder.channels))
        return not (original.exists() and self._path(key).exists())

    def put_original(
        self, source: selection.EvaluationFile, form: tuple[int, int], samples: np.ndarray
    ) -> None:
        """Keeps some of a file at a sample rate and a number of channels."""
        if source.file in self._files:
            self._write(self._original(source, form), samples, form[0])

    def put(
        self, source: selection.EvaluationFile, key: str, samples: np.ndarray, sample_rate: int
    ) -> None:
        """Keeps some of a rendition [T, C]."""
        if source.file in self._files:
            self._write(self._path(key), samples, sample_rate)

    def item(
        self,
        source: selection.EvaluationFile,
        renditions: Iterable[tuple[coders.Coder, float, str]],
    ) -> results.Item:
        """A file to listen to.

        All is brought to the highest rate and the most channels of its codecs.

        Args:
          source: a file of which excerpts are kept.
          renditions: codec, kbps and key of each row.

        Raises:
          ValueError: an excerpt is not there.
        """
        rows = list(renditions)
        rate, channels = max((coder.sample_rate, coder.channels) for coder, *_ in rows)
        original = sound_files.read(self._original(source, (rate, channels))).samples
        return results.Item(
            file=source.file,
            group=source.group,
            sample_rate=rate,
            original=original,
            renditions=tuple(
                results.Rendition(coder.name, kbps, self._read(key, rate, original))
                for coder, kbps, key in rows
            ),
        )

    def _read(self, key: str, sample_rate: int, original: np.ndarray) -> np.ndarray:
        """A rendition like its original."""
        sound = sound_files.read(self._path(key))
        samples = resampling.mix(sound.samples, original.shape[1])
        samples = resampling.resample(samples, sound.sample_rate, sample_rate, len(original))
        return np.pad(samples, ((0, len(original) - len(samples)), (0, 0)))

    def _path(self, key: str) -> pathlib.Path:
        return self._folder / f"{key}.flac"

    def _original(self, source: selection.EvaluationFile, form: tuple[int, int]) -> pathlib.Path:
        status = source.path.stat()
        facts = f"{source.file} {status.st_size} {status.st_mtime_ns} {form}"
        return self._path(hashlib.sha256(facts.encode()).hexdigest()[:32])

    def _write(self, path: pathlib.Path, samples: np.ndarray, sample_rate: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        sound_files.write(path, middle(samples, sample_rate), sample_rate)
