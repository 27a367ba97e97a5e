"""Excerpts of files and of their renditions, kept in a folder for the report.

They are 16 bit FLAC, kept so that a later run need not code their rows again.

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

SECONDS = 10.0  # the longest excerpt; of a longer file, its middle


def choose(files: Sequence[selection.EvaluationFile], count: int) -> list[selection.EvaluationFile]:
    """Choose up to `count` files, taking turns between groups."""
    groups = collections.defaultdict(list)
    for file in files:
        groups[file.group].append(file)
    turns = [
        (turn, group, file)
        for group, members in groups.items()
        for turn, file in enumerate(members)
    ]
    chosen = sorted(turns, key=lambda entry: entry[:2])[:count]
    return [file for *_, file in chosen]


def middle(samples: np.ndarray, sample_rate: int, seconds: float = SECONDS) -> np.ndarray:
    """Return the middle of a signal [T, C], up to `seconds` long."""
    length = round(seconds * sample_rate)
    start = max(0, (len(samples) - length) // 2)
    return samples[start : start + length]


class ExcerptStore:
    """The excerpts of a run."""

    def __init__(self, folder: pathlib.Path, names: Collection[str]):
        """Create a store.

        Args:
          folder: where to keep excerpts, created with the first one.
          names: the files to keep excerpts of; others are ignored.
        """
        self._folder = folder
        self._names = frozenset(names)

    def lacks(self, file: selection.EvaluationFile, coder: coders.Coder, key: str) -> bool:
        """Whether the excerpt of a row or of its original is wanted and missing."""
        if file.name not in self._names:
            return False
        original = self._original(file, (coder.sample_rate, coder.channels))
        return not (original.exists() and self._path(key).exists())

    def put_original(
        self, file: selection.EvaluationFile, form: tuple[int, int], samples: np.ndarray
    ) -> None:
        """Keep an excerpt of a file at a sample rate and number of channels."""
        if file.name in self._names:
            self._write(self._original(file, form), samples, form[0])

    def put(
        self, file: selection.EvaluationFile, key: str, samples: np.ndarray, sample_rate: int
    ) -> None:
        """Keep an excerpt of a rendition [T, C]."""
        if file.name in self._names:
            self._write(self._path(key), samples, sample_rate)

    def item(
        self,
        file: selection.EvaluationFile,
        renditions: Iterable[tuple[coders.Coder, float, str]],
    ) -> results.Item:
        """Read the excerpts of a file, at the highest sample rate and most channels of its coders.

        Args:
          file: a file with excerpts.
          renditions: coder, kbps and key of each row.

        Raises:
          ValueError: if an excerpt is missing.
        """
        rows = list(renditions)
        rate, channels = max((coder.sample_rate, coder.channels) for coder, *_ in rows)
        original = sound_files.read(self._original(file, (rate, channels))).samples
        return results.Item(
            file=file.name,
            group=file.group,
            sample_rate=rate,
            original=original,
            renditions=tuple(
                results.Rendition(coder.name, kbps, self._read(key, rate, original))
                for coder, kbps, key in rows
            ),
        )

    def _read(self, key: str, sample_rate: int, original: np.ndarray) -> np.ndarray:
        """Read a rendition in the original's sample rate and shape."""
        sound = sound_files.read(self._path(key))
        samples = resampling.mix(sound.samples, original.shape[1])
        samples = resampling.resample(samples, sound.sample_rate, sample_rate, len(original))
        return np.pad(samples, ((0, len(original) - len(samples)), (0, 0)))

    def _path(self, key: str) -> pathlib.Path:
        return self._folder / f"{key}.flac"

    def _original(self, file: selection.EvaluationFile, form: tuple[int, int]) -> pathlib.Path:
        facts = " ".join(map(str, (*file.stamp(), form)))
        return self._path(hashlib.sha256(facts.encode()).hexdigest()[:32])

    def _write(self, path: pathlib.Path, samples: np.ndarray, sample_rate: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        sound_files.write(path, middle(samples, sample_rate), sample_rate)
