"""Excerpts of files and of their renditions, kept in a folder for the report.

They are 16 bit FLAC, kept so that a later run need not code their rows again.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
import pathlib
from collections.abc import Collection, Sequence

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
    turns = itertools.zip_longest(*(groups[group] for group in sorted(groups)))
    return [file for turn in turns for file in turn if file is not None][:count]


def middle(samples: np.ndarray, sample_rate: int, seconds: float = SECONDS) -> np.ndarray:
    """Return the middle of a signal [T, C], up to `seconds` long."""
    length = round(seconds * sample_rate)
    start = max(0, (len(samples) - length) // 2)
    return samples[start : start + length]


class ExcerptStore:
    """The excerpts of a run: of the named files, in a folder that the first one creates."""

    def __init__(self, folder: pathlib.Path, names: Collection[str]):
        self._folder = folder
        self._names = frozenset(names)

    def lacks(
        self, file: selection.EvaluationFile, coder: coders.EvaluationCoder, key: str
    ) -> bool:
        """Whether the excerpt of a row or of its original is wanted and missing."""
        keys = original_key(file, coder.sample_rate, coder.channels), key
        return file.name in self._names and not all(self._path(key).exists() for key in keys)

    def put(
        self, file: selection.EvaluationFile, key: str, samples: np.ndarray, sample_rate: int
    ) -> None:
        """Keep an excerpt of a file, or of a rendition of it, [T, C]."""
        if file.name in self._names:
            self._folder.mkdir(parents=True, exist_ok=True)
            sound_files.write(self._path(key), middle(samples, sample_rate), sample_rate)

    def item(
        self,
        file: selection.EvaluationFile,
        rows: Sequence[tuple[coders.EvaluationCoder, float, str]],
    ) -> results.Item:
        """Read the excerpts of a file, at the highest sample rate and most channels of its coders.

        Takes coder, kbps and key of each row. Raises ValueError if an excerpt is missing.
        """
        rate, channels = max((coder.sample_rate, coder.channels) for coder, *_ in rows)
        original = sound_files.read(self._path(original_key(file, rate, channels))).samples
        renditions = tuple(
            results.Rendition(coder.name, kbps, self._read(key, rate, original))
            for coder, kbps, key in rows
        )
        return results.Item(file.name, file.group, rate, original, renditions)

    def _read(self, key: str, sample_rate: int, original: np.ndarray) -> np.ndarray:
        """Read a rendition in the original's sample rate and shape."""
        sound = sound_files.read(self._path(key))
        samples = resampling.mix(sound.samples, original.shape[1])
        samples = resampling.resample(samples, sound.sample_rate, sample_rate, len(original))
        return np.pad(samples, ((0, len(original) - len(samples)), (0, 0)))

    def _path(self, key: str) -> pathlib.Path:
        return self._folder / f"{key}.flac"


def original_key(file: selection.EvaluationFile, sample_rate: int, channels: int) -> str:
    """Return the key of a file's own excerpt, as coders of a sample rate and channels take it."""
    facts = " ".join(map(str, (*file.stamp(), (sample_rate, channels))))
    return hashlib.sha256(facts.encode()).hexdigest()[:32]
