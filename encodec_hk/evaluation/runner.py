"""Codes every file with every coder at every bitrate, and measures the outputs.

Nothing else runs while a coder is timed: the outputs of a file are measured, on all cores, before
the next file is coded. A journal keeps each finished row, and a later run skips it.

Shapes: T samples, C channels, K codebooks.
"""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from encodec_hk.evaluation import code_counts
from encodec_hk.evaluation import coders
from encodec_hk.evaluation import excerpts
from encodec_hk.evaluation import journals
from encodec_hk.evaluation import measures
from encodec_hk.evaluation import measuring_pool
from encodec_hk.evaluation import payloads
from encodec_hk.evaluation import results
from encodec_hk.evaluation import selection
from encodec_hk.sound import sound_files
from encodec_hk.system import file_paths
from encodec_hk.system import interruption

_VERSION = 1  # of journal entries: a run does not continue from another version


@dataclasses.dataclass
class Runner:
    """Codes and measures files.

    Attributes:
      codecs: what to run, each at its bitrates.
      journal: finished rows.
      pool: the processes that measure.
      store: excerpts to listen to.
      names: measures to take, as `measures.available` returns them.
      rows: all finished rows, by file, coder and bitrate.
      counts: counts of codes by coder and kbps ("1.5").
      failed: reason by file, or by "file, coder kbps" where the file's other rows are finished.
      unmeasured: by measure, "file: reason" for each row without it.
    """

    codecs: Sequence[coders.EvaluationCoder]
    journal: journals.Journal
    pool: measuring_pool.Pool
    store: excerpts.ExcerptStore
    names: Sequence[str]
    rows: list[results.Row] = dataclasses.field(default_factory=list)
    counts: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    unmeasured: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def run(self, file: selection.EvaluationFile, step: Callable[[], object]) -> int:
        """Code and measure a file, and note what fails.

        Calls `step` after every new row. Returns the number of rows that no earlier run finished.
        """
        try:
            keys = self._keys(file)
        except OSError as error:
            self.failed[file.name] = error.strerror or str(error)
            return 0
        due = {
            (coder, kbps): key
            for (coder, kbps), key in keys.items()
            if self.journal.get(key) is None or self.store.lacks(file, coder, key)
        }
        try:
            new = self._code(file, due, step) if due else 0
        except ValueError as error:
            # The message may start with the file's name, which is shown with it anyway.
            self.failed[file.name] = str(error).removeprefix(f"{file_paths.shown(file.path)}: ")
            return 0
        for (coder, kbps), key in keys.items():
            entry = self.journal.get(key)
            if entry is not None:
                self._add_row(file, coder, kbps, entry)
        return new

    def item(self, file: selection.EvaluationFile) -> results.Item | None:
        """Return a finished file to listen to; None if it failed or has no rows."""
        if file.name in self.failed:
            return None
        keys = self._keys(file)
        rows = [(*row, key) for row, key in keys.items() if self.journal.get(key) is not None]
        return self.store.item(file, rows) if rows else None

    def _keys(
        self, file: selection.EvaluationFile
    ) -> dict[tuple[coders.EvaluationCoder, float], str]:
        """Return the journal's key of each row of a file."""
        facts = [*file.stamp(), file.is_speech]
        return {
            (coder, kbps): journals.key_of(
                _VERSION, facts, coder.name, coder.identity, kbps, self.names
            )
            for coder in self.codecs
            for kbps in coder.bitrates
        }

    def _code(
        self,
        file: selection.EvaluationFile,
        keys: Mapping[tuple[coders.EvaluationCoder, float], str],
        step: Callable[[], object],
    ) -> int:
        """Code and measure rows of a file; return how many.

        Raises ValueError if the file cannot be read, or a process that measures dies.
        """
        sound = sound_files.read(file.path)
        prepared: dict[tuple[int, int], np.ndarray] = {}
        with tempfile.TemporaryDirectory(prefix="encodec_hk-") as name:
            folder = pathlib.Path(name)
            tasks: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = []  # key, entry, arguments
            for (coder, kbps), key in keys.items():
                interruption.check()
                form = rate, channels = coder.sample_rate, coder.channels
                reference = folder / f"{rate}_{channels}.npy"
                if form not in prepared:
                    prepared[form] = coders.prepare(sound, *form)
                    np.save(reference, prepared[form])
                    self.store.put(file, excerpts.original_key(file, *form), prepared[form], rate)
                try:
                    coded = coder.code(prepared[form], kbps)
                except ValueError as error:
                    self.failed[f"{file.name}, {coder.name} {kbps:g} kbps"] = str(error)
                    continue
                estimate = folder / f"{key}.npy"
                np.save(estimate, coded.samples)
                self.store.put(file, key, coded.samples, rate)
                arguments = (str(reference), str(estimate), rate, self.names, file.is_speech)
                tasks.append((key, _entry(coded, rate), arguments))
            # From here on all cores measure, and nothing is timed until they are done.
            try:
                futures = [self.pool.submit(*arguments) for *_, arguments in tasks]
                for (key, entry, _), future in zip(tasks, futures, strict=True):
                    interruption.check()
                    measured = future.result()
                    entry["measures"] |= measured.values
                    entry["errors"] = measured.errors
                    self.journal.add(key, entry)
                    step()
            except measuring_pool.BrokenExecutor as error:
                self.pool.close()
                raise ValueError(f"a process that measures died ({error})") from error
        return len(tasks)

    def _add_row(
        self,
        file: selection.EvaluationFile,
        coder: coders.EvaluationCoder,
        kbps: float,
        entry: dict[str, Any],
    ) -> None:
        """Add a finished row to the findings."""
        values = entry["measures"]
        self.rows.append(
            {
                "file": file.name,
                "group": file.group,
                "codec": coder.name,
                "is_speech": file.is_speech,
                "kbps": kbps,
                "seconds": entry["seconds"],
                **{name: values[name] for name in measures.MEASURES if name in values},
            }
        )
        for name, reason in entry["errors"].items():
            self.unmeasured.setdefault(name, []).append(f"{file.name}: {reason}")
        if "counts" in entry:
            cells = self.counts.setdefault(coder.name, {})
            found = code_counts.from_json(entry["counts"])
            cells[f"{kbps:g}"] = cells.get(f"{kbps:g}", 0) + found


def _entry(coded: coders.Coded, sample_rate: int) -> dict[str, Any]:
    """Return the journal's entry for an output, without its measures of quality."""
    seconds = len(coded.samples) / sample_rate
    entry: dict[str, Any] = {
        "seconds": seconds,
        "measures": {
            "payload_kbps": payloads.kbps(coded.payload_bytes, seconds),
            "total_kbps": payloads.kbps(coded.total_bytes, seconds),
            "encode_speed": seconds / coded.encode_seconds,
            "decode_speed": seconds / coded.decode_seconds,
        },
    }
    for name in ("language_payload", "language_total"):
        num_bytes = getattr(coded, f"{name}_bytes")
        if num_bytes is not None:
            entry["measures"][f"{name}_kbps"] = payloads.kbps(num_bytes, seconds)
    if coded.codes is not None:
        counts = code_counts.count(coded.codes, coded.num_entries)
        entry["counts"] = code_counts.to_json(counts)
    return entry
