"""`run.py evaluate`: how good, how large and how fast models are, beside Opus and MP3."""

from __future__ import annotations

import importlib
import pathlib
import sys
from collections.abc import Sequence

import ml_collections
import tqdm

from encodec_hk import audio
from encodec_hk import machine
from encodec_hk.commands import contenders
from encodec_hk.commands import files
from encodec_hk.commands import infer
from encodec_hk.commands import interruption
from encodec_hk.commands import parity as parity_lib
from encodec_hk.evaluation import coded
from encodec_hk.evaluation import excerpts
from encodec_hk.evaluation import jobs
from encodec_hk.evaluation import journal as journal_lib
from encodec_hk.evaluation import measuring
from encodec_hk.evaluation import results
from encodec_hk.evaluation import sources
from encodec_hk.evaluation import summary as summary_lib
from encodec_hk.evaluation import table
from encodec_hk.evaluation import workers as workers_lib

CLIPS = infer.ROOT / "assets" / "clips"


def run(
    config: ml_collections.ConfigDict | None,
    *,
    checkpoint: str | None = None,
    data: str | None = None,
    bandwidths: Sequence[str] | None = None,
    baselines: Sequence[str] = ("opus", "mp3"),
    compare: Sequence[str] = (),
    out: str | None = None,
    speech: Sequence[str] | None = None,
    report_files: int = 8,
    workers: int | None = None,
    more_configs: Sequence[str] = (),
) -> int:
    """Evaluates; writes metrics.csv, summary.json and report.html, and prints tables.

    A run that was interrupted, or whose models or files have changed, goes on from what is
    finished: OUT/journal.jsonl has every row under all that it depends on. See docs/evaluation.md.

    Args:
      config: a whole configuration; None for the one in the checkpoint.
      checkpoint: the file of weights, or several, with commas between; None for the
        configurations' own.
      data: files of sound, as `infer` takes them; None for the clips of the project.
      bandwidths: kbps; None for those of the models' configurations.
      baselines: codecs to compare with, of `baselines.KINDS`.
      compare: ("transformers",) to hold the codes against PyTorch's; empty: not to.
      out: the folder to write to, made where it is missing; None: evaluation_NAME.
      speech: patterns of files that are speech, see `sources.name_all`.
      report_files: how many files to put into the report, 10 s at most of each.
      workers: processes that take measures; None for one per core, 0: none, all is done in turn.
      more_configs: files of configurations of further models.

    Returns:
      The exit status: 0; 1 where no file could be measured; 130 when interrupted.

    Raises:
      ValueError: an argument is wrong.
    """
    for name, count in (("report_files", report_files), ("workers", workers)):
        if count is not None and count < 0:
            raise ValueError(f"--{name}: got {count}, must be 0 or more")
    rates = contenders.parse_rates(bandwidths)
    contenders.check_baselines(baselines)
    contenders.check_compared(compare)
    models = contenders.load(config, more_configs, checkpoint, rates)
    others, missing = contenders.baselines_of(models, baselines, rates)
    folder = pathlib.Path(out or "evaluation_" + "_".join(model.name for model in models))
    found, unreadable = _find(data, folder, speech or ())
    measures, lacking = measuring.available(any(source.is_speech for source in found))
    missing += lacking
    for line in missing:
        _say(f"missing: {line}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: {audio.shown(folder)}: {error.strerror}") from error

    journal = journal_lib.Journal(folder / "journal.jsonl")
    pool = workers_lib.Pool(machine.num_cores() if workers is None else workers)
    chosen = excerpts.choose(found, report_files)
    store = excerpts.Store(folder / "excerpts", [source.file for source in chosen])
    coders: list[coded.Coder] = [*models, *others]
    runner = jobs.Runner(coders, journal, pool, store, measures=measures, check=interruption.check)
    progress = _Progress(len(found), sum(len(coder.rates) for coder in coders))
    try:
        for source in found:
            progress.file(source, runner)
        parities = {}
        if compare:
            parities = parity_lib.compare_all(models, found, journal, missing, _say)
    except KeyboardInterrupt:
        _say(f"interrupted: {progress.done} of {len(found)} files done; the same command goes on")
        return 130
    finally:
        progress.bar.close()
        pool.close()
        journal.close()

    summary: results.Summary = {
        "means": summary_lib.means(runner.found.rows),
        "codecs": {coder.name: coder.facts() for coder in coders},
        "codebooks": {
            codec: {kbps: counts.statistics() for kbps, counts in cells.items()}
            for codec, cells in runner.found.counts.items()
        },
        "missing": missing + summary_lib.untaken(runner.found.untaken),
        "failed": {**unreadable, **runner.found.failed},
        "parity": parities,
        "machine": machine.processor("model name")[0].rpartition(":")[2].strip(),
    }
    summary_lib.write_rows(folder / "metrics.csv", runner.found.rows)
    summary_lib.write_summary(folder / "summary.json", summary)
    status = _finish(summary, runner, chosen, folder, len(found))
    return 130 if interruption.is_requested() else status


def _finish(
    summary: results.Summary,
    runner: jobs.Runner,
    chosen: Sequence[sources.Source],
    folder: pathlib.Path,
    count: int,
) -> int:
    """Prints what was found and writes the report; returns the exit status."""
    for line in summary["missing"]:
        _say(f"missing: {line}")
    for file, reason in summary["failed"].items():
        _say(f"failed: {audio.shown(file)}: {reason}")
    rows = runner.found.rows
    if not rows:
        _say(f"none of {count} files could be measured")
        return 1
    items = [item for item in map(runner.item, chosen) if item is not None]
    title = f"{', '.join(summary['codecs'])} on {len({row['file'] for row in rows})} files"
    # Late: it is a large part, and of no use to a run that fails.
    report = importlib.import_module("encodec_hk.evaluation.report")
    path = folder / "report.html"
    written = "metrics.csv, summary.json and report.html"
    try:
        report.write(path, title=title, rows=rows, summary=summary, items=items)
    except ValueError as error:  # a package that only it needs: the figures are not lost
        summary["missing"].append(f"report.html: {error}")
        _say(f"missing: report.html: {error}")
        summary_lib.write_summary(folder / "summary.json", summary)
        written = "metrics.csv and summary.json"
    print(table.render(summary))
    print(
        f"\n{len(rows)} rows, {runner.found.num_new} of them new; wrote "
        f"{written} into {audio.shown(folder)}"
    )
    return 0


def _find(
    data: str | None, out: pathlib.Path, speech: Sequence[str]
) -> tuple[list[sources.Source], dict[str, str]]:
    """The files, and what could not be searched: reason by folder."""
    found = files.find(str(CLIPS) if data is None else data, str(out))
    paths = [path for path in found.files if path.suffix.lower() != files.CODES]
    if not paths:
        raise ValueError(f"--data: {audio.shown(str(data))}: has no files of sound")
    root = paths[0].parent if found.root is None else found.root
    unreadable = dict(line.rpartition(": ")[::2] for line in found.unreadable)
    return sources.name_all(paths, root, speech), unreadable


def _say(line: str) -> None:
    """Prints a line to stderr, above the bar."""
    tqdm.tqdm.write(line, file=sys.stderr)


class _Progress:
    """A bar of rows on a terminal, else a line for every file."""

    def __init__(self, num_files: int, num_rows: int):
        """Begins a bar of so many files, of so many rows each."""
        self.done = 0
        self._num_files, self._num_rows = num_files, num_rows
        self.bar = tqdm.tqdm(
            total=num_files * num_rows, unit="row", disable=not sys.stderr.isatty()
        )

    def file(self, source: sources.Source, runner: jobs.Runner) -> None:
        """Does a file."""
        self.bar.set_postfix_str(source.file)
        new = runner.run(source, self.bar.update)
        self.bar.update(self._num_rows - new)
        self.done += 1
        if self.bar.disable:
            outcome = runner.found.failed.get(source.file) or f"{new} of {self._num_rows} rows new"
            name = audio.shown(source.file)
            print(f"[{self.done}/{self._num_files}] {name}: {outcome}", flush=True)
