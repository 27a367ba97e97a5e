"""Training data: an endless stream of random crops, a pure function of the seed.

Item i of the stream is made from (seed, i) alone, so any batch can be made again, a stream goes on
exactly where it was left, and neither the number of worker processes nor that of shards shows:

    item    0  1  2  3 | 4  5  6  7 | ...      batches of 4
    shard   0  0  1  1 | 0  0  1  1 | ...      of 2 shards

Letters: B batch, T samples, C channels. Samples are float32 with full scale at 1.
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
import soundfile
from absl import flags
from absl import logging

from encodec_hk.sound import sound_files
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.training import sound_index

_ITEMS = 2**62  # of the stream: more than any run takes
_DRAWS = 16  # of a crop, while those drawn are silent or cannot be decoded
_GAIN_DRAWS = 8  # of an item's gains, while it clips
_SILENCE = 1e-4  # RMS below which a crop is drawn again
_THREADS = 4  # that read ahead where there are no worker processes


@dataclasses.dataclass(frozen=True)
class _Item(grain.transforms.Map):
    """Makes item i of the stream, float32 [T, C], of the number i.

    The paper (section 4.1) mixes one to three sources, normalises by file, applies a gain, and
    rejects what clips. Here:
    - Files keep the level they are stored at. Their peaks would take a pass over all of them, and
      published files mostly have one near full scale.
    - Each crop of a mixture has a gain of its own, uniform in decibels.
    - Where the sum clips, the gains are drawn again and not the crops: else loud files would come
      up less often than their durations say. After a few times the sum is scaled to full scale.
    - All sources are mixed alike; the paper leaves music out of the mixtures of three.
    - No reverberation: the paper's impulse responses are a data set of their own.
    """

    sources: tuple[sound_index.SoundFile, ...]
    ends: np.ndarray  # [N] seconds of all sources up to each, it included
    sample_rate: int
    channels: int
    crop_length: int
    seed: int
    mix_probabilities: tuple[float, ...]
    gain_db: tuple[float, float]
    failed: set[str]  # paths that a warning was given of, in this process

    def map(self, element: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, element))
        chosen = rng.random() * sum(self.mix_probabilities)
        count = 1 + int(np.searchsorted(np.cumsum(self.mix_probabilities), chosen, side="right"))
        count = min(count, len(self.mix_probabilities))  # should rounding reach the sum
        crops = np.stack([self._crop(rng) for _ in range(count)])
        for _ in range(_GAIN_DRAWS):
            gains = 10 ** (rng.uniform(*self.gain_db, size=(count, 1, 1)) / 20)
            mixture = (crops * gains.astype(np.float32)).sum(axis=0)
            if np.abs(mixture).max() <= 1:
                return mixture
        return sound_files.limit(mixture, rescale=True)[0]

    def _crop(self, rng: np.random.Generator) -> np.ndarray:
        """A crop of a source drawn by duration, at a place drawn uniformly: [T, C]."""
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
            except (OSError, soundfile.LibsndfileError, ValueError) as error:
                # One bad file must not end a run of days.
                reason = f"{file_paths.shown(source.path)}: {file_errors.reason(error)}"
                if source.path not in self.failed:
                    self.failed.add(source.path)
                    count = f"files like that so far: {len(self.failed)}"
                    logging.warning("%s; another crop is drawn (%s)", reason, count)
                continue
            if np.sqrt(np.mean(np.square(crop))) >= _SILENCE:
                break
        if crop is None:
            raise ValueError(f"{_DRAWS} crops in a row cannot be read, the last: {reason}")
        return crop


@dataclasses.dataclass(frozen=True)
class _Shard(grain.transforms.Map):
    """The number in the stream of an item of one shard."""

    index: int
    batch_size: int  # of all shards
    items: int  # of one shard in a batch

    def map(self, element: int) -> int:
        batch, at = divmod(element, self.items)
        return batch * self.batch_size + self.index * self.items + at


class Crops(grain.DatasetIterator):
    """An iterator over batches, float32 [B / shards, T, C].

    Its state is the number of the next batch, and does not depend on workers or shards. `close`
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
        # Out of the shared memory that workers hand over: it goes away when grain sees fit.
        return np.array(batch)

    def _start(self) -> grain.DatasetIterator:
        threads = 1 if self._num_workers else _THREADS
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        dataset = self._batches[self._next :].to_iter_dataset(options)
        if self._num_workers:
            # grain reads its flags; where nobody parses any (a library, pytest) their defaults do.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(self._num_workers))
        return iter(dataset)

    def get_state(self) -> dict[str, Any]:
        """The number of the next batch, for `set_state`; JSON can hold it."""
        return {"next_batch": self._next}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to the batch that a state names."""
        self._stop()
        self._next = int(state["next_batch"])

    def close(self) -> None:
        """Ends threads and worker processes."""
        self._stop()
        super().close()

    def _stop(self) -> None:
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None


def crops(
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
    shard_index: int = 0,
    shard_count: int = 1,
) -> Crops:
    """Batches of random crops, without end (paper: section 4.1).

    A source is drawn with a probability proportional to its duration, the crop uniformly in it. A
    file shorter than the crop is followed by zeros. Crops that are silent (RMS below 1e-4) or
    cannot be decoded are drawn again.

    Args:
      sources: of `sources.find`.
      sample_rate: Hz.
      channels: of the batches; see `resampling.mix`.
      crop_length: samples.
      batch_size: items of a batch, of all shards together.
      seed: at least 0; it decides everything that is drawn.
      mix_probabilities: of an item being the sum of 1, 2, 3 ... crops.
      gain_db: lowest and highest gain of each crop; drawn again where the sum exceeds full scale.
      num_workers: processes that make batches; 0 for threads of this process. A script that asks
        for processes must have the usual `if __name__ == "__main__":`.
      shard_index: which part of every batch to make.
      shard_count: parts of every batch. Concatenated they are the batch of one shard.

    Returns:
      An iterator over float32 [B / shard_count, T, C], with `get_state`, `set_state` and `close`.

    Raises:
      ValueError: an argument is out of range. While iterating: 16 crops in a row could not be read.
    """
    if not sources:
        raise ValueError("sources: got none")
    if crop_length < 1 or batch_size < 1 or shard_count < 1 or batch_size % shard_count:
        raise ValueError(
            f"crop_length {crop_length}, batch_size {batch_size}, shard_count {shard_count}: must "
            "be at least 1, and the batch a multiple of the shards"
        )
    if not 0 <= shard_index < shard_count:
        raise ValueError(f"shard_index: got {shard_index}, must be below {shard_count}")
    if seed < 0 or num_workers < 0:
        raise ValueError(f"seed {seed}, num_workers {num_workers}: must be at least 0")
    total = sum(mix_probabilities)
    if min(mix_probabilities, default=-1) < 0 or not math.isclose(total, 1, abs_tol=1e-6):
        raise ValueError(f"mix_probabilities: got {mix_probabilities}, must sum to 1")
    if not -math.inf < gain_db[0] <= gain_db[1] < math.inf:
        raise ValueError(f"gain_db: got {gain_db}, must be (lowest, highest)")
    item = _Item(
        sources=tuple(sources),
        ends=np.cumsum([source.seconds for source in sources]),
        sample_rate=sample_rate,
        channels=channels,
        crop_length=crop_length,
        seed=seed,
        mix_probabilities=mix_probabilities,
        gain_db=gain_db,
        failed=set(),
    )
    items = batch_size // shard_count
    shard = _Shard(shard_index, batch_size, items)
    stream = grain.MapDataset.range(_ITEMS).map(shard).map(item).batch(items, drop_remainder=True)
    return Crops(stream, num_workers)


def validation_items(
    sources: Sequence[sound_index.SoundFile],
    *,
    sample_rate: int,
    channels: int,
    seconds: float,
    count: int,
) -> list[np.ndarray]:
    """A fixed selection for validation, the same in every run.

    Folders take turns, and give files evenly spread over those they have. Of each file the middle.

    Args:
      sources: of `sources.find`.
      sample_rate: Hz.
      channels: of the items; see `resampling.mix`.
      seconds: the longest that an item may be.
      count: of items; fewer where there are fewer sources.

    Returns:
      float32 [T, C] each.

    Raises:
      ValueError: a file cannot be read.
    """
    folders: dict[str, list[sound_index.SoundFile]] = collections.defaultdict(list)
    for source in sorted(sources, key=lambda source: source.path):
        folders[os.path.dirname(source.path)].append(source)
    shares = dict.fromkeys(folders, 0)
    turns: list[tuple[str, int]] = []  # folder, how many it has given before
    while len(turns) < min(count, len(sources)):
        for folder, files in folders.items():
            if shares[folder] < len(files) and len(turns) < count:
                turns.append((folder, shares[folder]))
                shares[folder] += 1
    items = []
    for folder, turn in turns:
        source = folders[folder][(2 * turn + 1) * len(folders[folder]) // (2 * shares[folder])]
        whole = -(-source.num_frames * sample_rate // source.sample_rate)
        length = min(whole, int(seconds * sample_rate))
        start = max(source.num_frames - length * source.sample_rate // sample_rate, 0) // 2
        settings = {"sample_rate": sample_rate, "channels": channels, "length": length}
        try:
            items.append(sound_index.read_crop(source, start, **settings))
        except (OSError, soundfile.LibsndfileError, ValueError) as error:
            raise ValueError(
                f"{file_paths.shown(source.path)}: {file_errors.reason(error)}"
            ) from error
    return items
