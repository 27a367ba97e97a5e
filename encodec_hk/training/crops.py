"""Training data: an endless stream of random crops, a pure function of the seed.

Item i of the stream is a function of (seed, i). So any batch can be made again, a stream resumes
exactly, and the numbers of worker processes and of shards change nothing:

    item    0  1  2  3 | 4  5  6  7 | ...      batches of 4
    shard   0  0  1  1 | 0  0  1  1 | ...      of 2 shards

Shapes: B batch, T samples, C channels. Samples are float32 with full scale at 1.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np
from absl import flags
from absl import logging

from encodec_hk.sound import sound_files
from encodec_hk.system import rules
from encodec_hk.training import sound_index

_ITEMS = 2**62  # length of the stream: more than any run takes
_DRAWS = 16  # of a crop at most, while it is silent or cannot be read
_GAIN_DRAWS = 8  # of an item's gains at most, while it clips
_SILENCE = 1e-4  # RMS below which a crop is drawn again
_THREADS = 4  # that read ahead without worker processes


@dataclasses.dataclass(frozen=True)
class _Item(grain.transforms.Map):
    """Makes item i of the stream, float32 [T, C], from i.

    The paper (section 4.1) mixes one to three sources, normalises by file, applies a gain, and
    rejects what clips. Here:
    - Files keep their level. Finding their peaks would take a pass over all of them, and the peak
      of most published files is near full scale.
    - Each crop of a mixture has its own gain, uniform in decibels.
    - If the sum clips, the gains are drawn again but not the crops: otherwise loud files would come
      less often than their durations imply. After a few draws the sum is scaled to full scale.
    - Any sources are mixed; the paper excludes music from mixtures of three.
    - There is no reverberation: the paper's impulse responses are a data set of their own.
    """

    sources: tuple[sound_index.SoundFile, ...]
    ends: np.ndarray  # [N] cumulative seconds of the sources
    sample_rate: int
    channels: int
    crop_length: int
    seed: int
    mix_probabilities: tuple[float, ...]
    gain_db: tuple[float, float]
    num_items: int  # the stream repeats after so many
    failed: set[str]  # paths that this process has warned about

    def map(self, element: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, element % self.num_items))
        chosen = rng.random() * sum(self.mix_probabilities)
        count = 1 + int(np.searchsorted(np.cumsum(self.mix_probabilities), chosen, side="right"))
        count = min(count, len(self.mix_probabilities))  # rounding may reach the sum
        crops = np.stack([self._crop(rng) for _ in range(count)])
        for _ in range(_GAIN_DRAWS):
            gains = 10 ** (rng.uniform(*self.gain_db, size=(count, 1, 1)) / 20)
            mixture = (crops * gains.astype(np.float32)).sum(axis=0)
            if np.abs(mixture).max() <= 1:
                return mixture
        return sound_files.limit(mixture, rescale=True)[0]

    def _crop(self, rng: np.random.Generator) -> np.ndarray:
        """Return a crop [T, C] of a source drawn by duration, at a uniformly drawn start."""
        crop, reason = None, ""
        for _ in range(_DRAWS):
            at = np.searchsorted(self.ends, rng.random() * self.ends[-1], side="right")
            source = self.sources[min(int(at), len(self.sources) - 1)]
            needed = -(-self.crop_length * source.sample_rate // self.sample_rate)
            start = int(rng.integers(max(source.num_frames - needed, 0) + 1))
            try:
                crop = sound_index.read_crop(
                    source,
                    start,
                    sample_rate=self.sample_rate,
                    channels=self.channels,
                    length=self.crop_length,
                )
            except ValueError as error:  # one bad file must not end a run of days
                reason = str(error)
                if source.path not in self.failed:
                    self.failed.add(source.path)
                    logging.warning(
                        "%s; another crop is drawn (bad files so far: %d)", reason, len(self.failed)
                    )
                continue
            if np.sqrt(np.mean(np.square(crop))) >= _SILENCE:
                break
        if crop is None:
            raise ValueError(f"{_DRAWS} crops in a row cannot be read; the last: {reason}")
        return crop


class Crops(grain.DatasetIterator):
    """An iterator over batches, float32 [B / shards, T, C].

    Its state is the number of the next batch, whatever the numbers of workers and shards. `close`
    ends the worker processes.
    """

    def __init__(self, batches: grain.MapDataset, num_workers: int) -> None:
        super().__init__()
        self._batches = batches
        self._num_workers = num_workers
        self._next = 0
        self._iterator: grain.DatasetIterator | None = None

    def __next__(self) -> np.ndarray:
        if self._iterator is None:
            self._iterator = self._start()
        batch = next(self._iterator)
        self._next += 1
        return np.array(batch)  # a copy, because grain may free the workers' shared memory

    def _start(self) -> grain.DatasetIterator:
        threads = 1 if self._num_workers else _THREADS
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        dataset = self._batches[self._next :].to_iter_dataset(options)
        if self._num_workers:
            # grain reads flags; if nobody parsed them (a library, pytest), use the defaults.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(self._num_workers))
        return iter(dataset)

    def get_state(self) -> dict[str, Any]:
        """Return the number of the next batch, for `set_state`, as JSON data."""
        return {"next_batch": self._next}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue at the batch of a state."""
        self._stop()
        self._next = int(state["next_batch"])

    def close(self) -> None:
        """End threads and worker processes."""
        self._stop()
        super().close()

    def _stop(self) -> None:
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None


def batches(
    sources: Sequence[sound_index.SoundFile],
    *,
    sample_rate: int,
    channels: int,
    crop_length: int,
    batch_size: int,
    seed: int,
    mix_probabilities: tuple[float, ...],
    gain_db: tuple[float, float],
    num_workers: int,
    num_batches: int | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
) -> Crops:
    """Return endless batches of random crops (paper: section 4.1).

    A source is drawn with a probability proportional to its duration, then a crop of it uniformly.
    Zeros follow a file that is shorter than the crop. A crop is drawn again if it is silent (RMS
    below 1e-4) or cannot be read.

    Args:
      sources: from `sound_index.scan`.
      sample_rate: Hz.
      channels: of the batches; see `resampling.mix`.
      crop_length: T.
      batch_size: B, of all shards together.
      seed: of everything that is drawn; at least 0.
      mix_probabilities: of an item being the sum of 1, 2, 3 ... crops.
      gain_db: lowest and highest gain of each crop; drawn again if the sum exceeds full scale.
      num_workers: processes that make batches; 0 for threads of this process. A script that asks
        for processes needs the usual `if __name__ == "__main__":`.
      num_batches: after so many the same ones come again; None for never.
      shard_index: which part of every batch to make.
      shard_count: number of parts. Concatenated, the parts are the whole batch.

    Raises:
      ValueError: if an argument is not allowed; while iterating, if 16 crops in a row could not be
        read.
    """
    if not sources:
        raise ValueError("sources: got none")
    for name, value, minimum in (
        ("crop_length", crop_length, 1),
        ("batch_size", batch_size, 1),
        ("shard_count", shard_count, 1),
        ("seed", seed, 0),
        ("num_workers", num_workers, 0),
        ("num_batches", 1 if num_batches is None else num_batches, 1),
    ):
        if value < minimum:
            raise rules.error(name, value, f"at least {minimum}")
    if batch_size % shard_count:
        raise rules.error("batch_size", batch_size, f"a multiple of shard_count ({shard_count})")
    if not 0 <= shard_index < shard_count:
        raise rules.error("shard_index", shard_index, f"0 to {shard_count - 1}")
    total = sum(mix_probabilities)
    if min(mix_probabilities, default=-1) < 0 or not math.isclose(total, 1, abs_tol=1e-6):
        raise rules.error(
            "mix_probabilities", mix_probabilities, "numbers of at least 0 that add up to 1"
        )
    if not -math.inf < gain_db[0] <= gain_db[1] < math.inf:
        raise rules.error("gain_db", gain_db, "(lowest, highest)")
    item = _Item(
        sources=tuple(sources),
        ends=np.cumsum([source.seconds for source in sources]),
        sample_rate=sample_rate,
        channels=channels,
        crop_length=crop_length,
        seed=seed,
        mix_probabilities=mix_probabilities,
        gain_db=gain_db,
        num_items=_ITEMS if num_batches is None else num_batches * batch_size,
        failed=set(),
    )
    parts = grain.MapDataset.range(_ITEMS).map(item).batch(batch_size // shard_count)
    return Crops(parts[shard_index::shard_count], num_workers)


def validation_excerpts(
    sources: Sequence[sound_index.SoundFile],
    *,
    sample_rate: int,
    channels: int,
    seconds: float,
    count: int,
) -> list[np.ndarray]:
    """Return excerpts for validation, float32 [T, C] each, the same in every run.

    Folders take turns; the files chosen are spread evenly over each folder. An excerpt is the
    middle of its file.

    Args:
      sources: from `sound_index.scan`.
      sample_rate: Hz.
      channels: of the excerpts; see `resampling.mix`.
      seconds: of an excerpt; less if the file is shorter.
      count: number of excerpts; fewer if there are fewer sources.

    Raises:
      ValueError: if a file cannot be read.
    """
    folders: dict[str, list[sound_index.SoundFile]] = collections.defaultdict(list)
    for source in sorted(sources, key=lambda source: source.path):
        folders[os.path.dirname(source.path)].append(source)
    groups = list(folders.values())
    turns = sorted((turn, at) for at, files in enumerate(groups) for turn in range(len(files)))
    shares = collections.Counter(at for _, at in turns[:count])
    excerpts = []
    for turn, at in turns[:count]:
        source = groups[at][(2 * turn + 1) * len(groups[at]) // (2 * shares[at])]
        whole = -(-source.num_frames * sample_rate // source.sample_rate)
        length = min(whole, int(seconds * sample_rate))
        start = max(source.num_frames - length * source.sample_rate // sample_rate, 0) // 2
        excerpt = sound_index.read_crop(
            source, start, sample_rate=sample_rate, channels=channels, length=length
        )
        excerpts.append(excerpt)
    return excerpts
