"""`run.py evaluate`: how good, how large and how fast models are, beside Opus and MP3."""

from __future__ import annotations

import importlib
import pathlib
import sys
from collections.abc import Sequence

import ml_collections
import tqdm

from encodec_hk.evaluation import candidates
from encodec_hk.evaluation import coders as coders_lib
from encodec_hk.evaluation import excerpts
from encodec_hk.evaluation import journals
from encodec_hk.evaluation import measuring
from encodec_hk.evaluation import measuring_pool
from encodec_hk.evaluation import parity
from encodec_hk.evaluation import results
from encodec_hk.evaluation import runner as runner_lib
from encodec_hk.evaluation import score_table
from encodec_hk.evaluation import selection
from encodec_hk.evaluation import summaries
from encodec_hk.system import file_paths
from encodec_hk.system import interruption
from encodec_hk.system import machine
from encodec_hk.transcode import plan

CLIPS = file_paths.ROOT / "assets" / "clips"


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
    rates = candidates.parse_rates(bandwidths)
    candidates.check_baselines(baselines)
    candidates.check_compared(compare)
    models = candidates.load(config, more_configs, checkpoint, rates)
    others, missing = candidates.baselines_of(models, baselines, rates)
    folder = pathlib.Path(out or "evaluation_" + "_".join(model.name for model in models))
    found, unreadable = _find(data, folder, speech or ())
    measures, lacking = measuring.available(any(source.is_speech for source in found))
    missing += lacking
    for line in missing:
        _say(f"missing: {line}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: {file_paths.shown(folder)}: {error.strerror}") from error

    journal = journals.Journal(folder / "journal.jsonl")
    pool = measuring_pool.Pool(machine.num_cores() if workers is None else workers)
    chosen = excerpts.choose(found, report_files)
    store = excerpts.ExcerptStore(folder / "excerpts", [source.file for source in chosen])
    coders: list[coders_lib.Coder] = [*models, *others]
    runner = runner_lib.Runner(
        coders, journal, pool, store, measures=measures, check=interruption.check
    )
    progress = _Progress(len(found), sum(len(coder.rates) for coder in coders))
    try:
        for source in found:
            progress.file(source, runner)
        parities = {}
        if compare:
            parities = parity.compare_all(models, found, journal, missing, _say)
    except KeyboardInterrupt:
        _say(f"interrupted: {progress.done} of {len(found)} files done; the same command goes on")
        return 130
    finally:
        progress.bar.close()
        pool.close()
        journal.close()

    summary: results.Summary = {
        "means": summaries.means(runner.found.rows),
        "codecs": {coder.name: coder.facts() for coder in coders},
        "codebooks": {
            codec: {kbps: counts.statistics() for kbps, counts in cells.items()}
            for codec, cells in runner.found.counts.items()
        },
        "missing": missing + summaries.untaken(runner.found.untaken),
        "failed": {**unreadable, **runner.found.failed},
        "parity": parities,
        "machine": machine.processor("model name")[0].rpartition(":")[2].strip(),
    }
    summaries.write_rows(folder / "metrics.csv", runner.found.rows)
    summaries.write_summary(folder / "summary.json", summary)
    status = _finish(summary, runner, chosen, folder, len(found))
    return 130 if interruption.is_requested() else status


def _finish(
    summary: results.Summary,
    runner: runner_lib.Runner,
    chosen: Sequence[selection.EvaluationFile],
    folder: pathlib.Path,
    count: int,
) -> int:
    """Prints what was found and writes the report; returns the exit status."""
    for line in summary["missing"]:
        _say(f"missing: {line}")
    for file, reason in summary["failed"].items():
        _say(f"failed: {file_paths.shown(file)}: {reason}")
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
        summaries.write_summary(folder / "summary.json", summary)
        written = "metrics.csv and summary.json"
    print(score_table.render(summary))
    print(
        f"\n{len(rows)} rows, {runner.found.num_new} of them new; wrote "
        f"{written} into {file_paths.shown(folder)}"
    )
    return 0


def _find(
    data: str | None, out: pathlib.Path, speech: Sequence[str]
) -> tuple[list[selection.EvaluationFile], dict[str, str]]:
    """The files, and what could not be searched: reason by folder."""
    found = plan.find(str(CLIPS) if data is None else data, str(out))
    paths = [path for path in found.files if path.suffix.lower() != plan.CODES]
    if not paths:
        raise ValueError(f"--data: {file_paths.shown(str(data))}: has no files of sound")
    root = paths[0].parent if found.root is None else found.root
    unreadable = dict(line.rpartition(": ")[::2] for line in found.unreadable)
    return selection.name_all(paths, root, speech), unreadable


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

    def file(self, source: selection.EvaluationFile, runner: runner_lib.Runner) -> None:
        """Does a file."""
        self.bar.set_postfix_str(source.file)
        new = runner.run(source, self.bar.update)
        self.bar.update(self._num_rows - new)
        self.done += 1
        if self.bar.disable:
            outcome = runner.found.failed.get(source.file) or f"{new} of {self._num_rows} rows new"
            name = file_paths.shown(source.file)
            print(f"[{self.done}/{self._num_files}] {name}: {outcome}", flush=True)
