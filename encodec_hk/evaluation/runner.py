"""The work of an evaluation: every file through every codec at every rate, and its measures.

While a codec is timed nothing else is done: the measures of a file are taken, on all cores, before
the next file is coded. What is finished stands in a journal, and is not done again.

Shapes: T samples, C channels, K codebooks.
"""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from encodec_hk.evaluation import code_rates
from encodec_hk.evaluation import coders
from encodec_hk.evaluation import excerpts
from encodec_hk.evaluation import journals
from encodec_hk.evaluation import measuring_pool
from encodec_hk.evaluation import results
from encodec_hk.evaluation import selection
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.system import file_paths

_VERSION = 1  # of what stands in the journal: another one is not gone on from


@dataclasses.dataclass
class Findings:
    """What was found.

    Attributes:
      rows: of all that was measured, by file, codec, rate.
      counts: of codes, by codec and kbps as text.
      failed: reason by file, or "file, codec kbps" where the rest of the file is there.
      untaken: by measure, "file: reason" of every row of which it could not be taken.
      num_new: rows that no earlier run had.
    """

    rows: list[results.Row] = dataclasses.field(default_factory=list)
    counts: dict[str, dict[str, code_rates.CodeCounts]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    untaken: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    num_new: int = 0


class Runner:
    """Does the work."""

    def __init__(
        self,
        coders: Sequence[coders.Coder],
        journal: journals.Journal,
        pool: measuring_pool.Pool,
        store: excerpts.ExcerptStore,
        *,
        measures: Sequence[str],
        check: Callable[[], None],
    ):
        """Takes what the work is done with.

        Args:
          coders: the codecs, each with its rates.
          journal: of what is finished.
          pool: measures.
          store: keeps excerpts of some files to listen to.
          measures: to take, as of `measuring.available`.
          check: raises where the work is to end.
        """
        self._coders = coders
        self._journal = journal
        self._pool = pool
        self._store = store
        self._measures = tuple(measures)
        self._check = check
        self.found = Findings()

    def run(
        self, source: selection.EvaluationFile, step: Callable[[], object] = lambda: None
    ) -> int:
        """Does a file; returns how many rows were new. What fails is noted, not raised.

        Args:
          source: the file.
          step: called after every row.
        """
        try:
            keys = self._keys(source)
        except OSError as error:
            self.found.failed[source.file] = error.strerror or str(error)
            return 0
        wanted = [pair for pair, key in keys.items() if self._is_due(source, pair[0], key)]
        new = 0
        if wanted:
            try:
                new = self._do(source, {pair: keys[pair] for pair in wanted}, step)
            except ValueError as error:
                # Whatever begins with the file's own name: it stands there already.
                reason = str(error).removeprefix(f"{file_paths.shown(source.path)}: ")
                self.found.failed[source.file] = reason
        for (coder, kbps), key in keys.items():
            entry = self._journal.get(key)
            if entry is not None and source.file not in self.found.failed:
                self._take_in(source, coder, kbps, entry)
        self.found.num_new += new
        return new

    def item(self, source: selection.EvaluationFile) -> results.Item | None:
        """A finished file to listen to; None where there is nothing of it."""
        if source.file in self.found.failed:
            return None
        rows = [
            (coder, kbps, key)
            for (coder, kbps), key in self._keys(source).items()
            if self._journal.get(key) is not None
        ]
        return self._store.item(source, rows) if rows else None

    def _keys(self, source: selection.EvaluationFile) -> dict[tuple[coders.Coder, float], str]:
        """The journal's key of every row of a file."""
        status = source.path.stat()
        file = [source.file, status.st_size, status.st_mtime_ns, source.is_speech]
        return {
            (coder, kbps): journals.key_of(
                _VERSION,
                *(file, coder.name, coder.identity, kbps, self._measures),
            )
            for coder in self._coders
            for kbps in coder.rates
        }

    def _is_due(self, source: selection.EvaluationFile, coder: coders.Coder, key: str) -> bool:
        return self._journal.get(key) is None or self._store.lacks(source, coder, key)

    def _do(
        self,
        source: selection.EvaluationFile,
        keys: Mapping[tuple[coders.Coder, float], str],
        step: Callable[[], object],
    ) -> int:
        """Codes and measures some rows of a file; ValueError where it cannot be read."""
        sound = sound_files.read(source.path)
        prepared: dict[tuple[int, int], np.ndarray] = {}
        with tempfile.TemporaryDirectory(prefix="encodec_hk-") as name:
            folder = pathlib.Path(name)
            tasks: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = []
            for (coder, kbps), key in keys.items():
                self._check()
                form = coder.sample_rate, coder.channels
                reference = folder / f"{form[0]}_{form[1]}.npy"
                if form not in prepared:
                    prepared[form] = prepare(sound, *form)
                    np.save(reference, prepared[form])
                    self._store.put_original(source, form, prepared[form])
                try:
                    made = coder.code(prepared[form], kbps)
                except ValueError as error:
                    self.found.failed[f"{source.file}, {coder.name} {kbps:g} kbps"] = str(error)
                    continue
                estimate = folder / f"{key}.npy"
                np.save(estimate, made.samples)
                self._store.put(source, key, made.samples, coder.sample_rate)
                arguments = (str(reference), str(estimate), form[0], self._measures)
                tasks.append((key, _entry(made, form[0]), (*arguments, source.is_speech)))
            # From here on all cores measure: until they are done, nothing is timed.
            try:
                waiting = [
                    (key, entry, self._pool.submit(*arguments)) for key, entry, arguments in tasks
                ]
                for key, entry, future in waiting:
                    self._check()
                    measured = future.result()
                    entry["measures"] |= measured.values
                    entry["errors"] = measured.errors
                    self._journal.add(key, entry)
                    step()
            except measuring_pool.BrokenExecutor as error:
                self._pool.close()
                raise ValueError(f"a process that measures died ({error})") from error
        return len(tasks)

    def _take_in(
        self,
        source: selection.EvaluationFile,
        coder: coders.Coder,
        kbps: float,
        entry: journals.Entry,
    ) -> None:
        """Adds a finished row to what was found."""
        measures = entry["measures"]
        self.found.rows.append(
            {
                "file": source.file,
                "group": source.group,
                "codec": coder.name,
                "is_speech": source.is_speech,
                "kbps": kbps,
                "seconds": entry["seconds"],
                **{name: measures[name] for name in results.MEASURES if name in measures},
            }
        )
        for measure, reason in entry["errors"].items():
            self.found.untaken.setdefault(measure, []).append(f"{source.file}: {reason}")
        if "counts" in entry:
            shape, text = entry["counts"]
            counts = self.found.counts.setdefault(coder.name, {}).setdefault(
                f"{kbps:g}", code_rates.CodeCounts(*shape)
            )
            counts.add_text(text)


def prepare(sound: sound_files.Audio, sample_rate: int, channels: int) -> np.ndarray:
    """A file as a codec takes it, float32 [T, C]: mixed and resampled as `run.py infer` does.

    It is also what the codec's output is measured against.
    """
    return resampling.resample(
        resampling.mix(sound.samples, channels), sound.sample_rate, sample_rate
    )


def _entry(made: coders.Coded, sample_rate: int) -> dict[str, Any]:
    """What the journal holds of a row, as far as the codec tells."""
    seconds = len(made.samples) / sample_rate
    entry: dict[str, Any] = {
        "seconds": seconds,
        "measures": {
            "payload_kbps": code_rates.kbps(made.payload_bytes, seconds),
            "total_kbps": code_rates.kbps(made.total_bytes, seconds),
            "encode_speed": seconds / made.encode_seconds,
            "decode_speed": seconds / made.decode_seconds,
        },
    }
    if made.codes is not None:
        counts = code_rates.CodeCounts(len(made.codes), made.num_entries)
        counts.add(made.codes)
        entry["counts"] = [list(counts.counts.shape), counts.to_text()]
    return entry
