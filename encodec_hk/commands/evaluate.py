"""`run.py evaluate`: how good, how large and how fast models are, beside Opus and MP3."""

from __future__ import annotations

import importlib
import pathlib
import sys
from collections.abc import Sequence

import ml_collections
import tqdm

from encodec_hk.commands import checkpoints
from encodec_hk.evaluation import baseline_coder
from encodec_hk.evaluation import code_counts
from encodec_hk.evaluation import coders
from encodec_hk.evaluation import excerpts
from encodec_hk.evaluation import journals
from encodec_hk.evaluation import measures
from encodec_hk.evaluation import measuring_pool
from encodec_hk.evaluation import model_coder
from encodec_hk.evaluation import parity
from encodec_hk.evaluation import results
from encodec_hk.evaluation import runner
from encodec_hk.evaluation import score_table
from encodec_hk.evaluation import selection
from encodec_hk.system import file_paths
from encodec_hk.system import interruption
from encodec_hk.system import machine
from encodec_hk.transcode import ecdc
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
) -> int:
    """Evaluate; write metrics.csv, summary.json and report.html, and print tables.

    OUT/journal.jsonl keeps every finished row, under all that it depends on. A run that was
    interrupted, or whose models or files have changed, continues from it. See docs/evaluation.md.

    Args:
      config: a whole configuration; None for the checkpoint's own.
      checkpoint: the checkpoint file, or several with commas between; None for the one that the
        configuration names.
      data: sound files, as `infer` takes them; None for the project's clips.
      bandwidths: kbps; None for each model's own.
      baselines: codecs to compare with, of `baseline_coder.KINDS`.
      compare: ("transformers",) compares the codes with PyTorch's; empty does not.
      out: the folder to write to, created if missing; None for evaluation_NAME.
      speech: patterns of files that are speech, see `selection.name_all`.
      report_files: how many files to put into the report, at most 10 s of each.
      workers: processes that measure; None for one per core, 0 to measure in this one.

    Returns:
      The exit status: 0; 1 if no file could be measured; 130 if interrupted.

    Raises:
      ValueError: if an argument is wrong.
    """
    for name, count in (("report_files", report_files), ("workers", workers)):
        if count is not None and count < 0:
            raise ValueError(f"--{name}: got {count}, must be 0 or more")
    for kind in compare:
        if kind != "transformers":
            raise ValueError(f"--compare: got {kind!r}, must be transformers, or empty for none")
    baseline_coder.check_kinds(baselines)
    bitrates = _bitrates(bandwidths)
    paths: list[str | None] = [*checkpoint.split(",")] if checkpoint else [None]
    codecs = [checkpoints.load_codec(config, path) for path in paths]
    for codec in codecs:
        codec.check_encoder()
    default = config.checkpoint if config is not None else ""
    languages = [checkpoints.load_language(config, path) for path in paths]
    sources = [path or default for path in paths]
    models = model_coder.make_all(codecs, sources, bitrates, languages)
    others, missing = baseline_coder.make_all(models, baselines, bitrates)
    folder = pathlib.Path(out or "evaluation_" + "_".join(model.name for model in models))
    files, unreadable = _find(data, folder, speech or ())
    names, lacking = measures.available(any(file.is_speech for file in files))
    missing += lacking
    for line in missing:
        _say(f"missing: {line}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: {file_paths.shown(folder)}: {error.strerror}") from error

    journal = journals.Journal(folder / "journal.jsonl")
    pool = measuring_pool.Pool(machine.num_cores() if workers is None else workers)
    chosen = excerpts.choose(files, report_files)
    store = excerpts.ExcerptStore(folder / "excerpts", [file.name for file in chosen])
    everyone: list[coders.EvaluationCoder] = [*models, *others]
    work = runner.Runner(everyone, journal, pool, store, names)
    num_done = num_new = 0
    num_rows = sum(len(coder.bitrates) for coder in everyone)  # of each file
    # A bar of rows on a terminal, else a line per file.
    bar = tqdm.tqdm(total=len(files) * num_rows, unit="row", disable=not sys.stderr.isatty())
    try:
        for file in files:
            bar.set_postfix_str(file.name)
            new = work.run(file, bar.update)
            bar.update(num_rows - new)
            num_done += 1
            num_new += new
            if bar.disable:
                outcome = work.failed.get(file.name) or f"{new} of {num_rows} rows new"
                name = file_paths.shown(file.name)
                print(f"[{num_done}/{len(files)}] {name}: {outcome}", flush=True)
        parities = parity.compare_all(models, files, journal, missing, _say) if compare else {}
    except KeyboardInterrupt:
        _say(f"interrupted: {num_done} of {len(files)} files done; the same command continues")
        return 130
    finally:
        bar.close()
        pool.close()
        journal.close()

    summary: results.Summary = {
        "means": results.means(work.rows),
        "codecs": {coder.name: coder.facts() for coder in everyone},
        "codebooks": {
            codec: {kbps: code_counts.statistics(counts) for kbps, counts in cells.items()}
            for codec, cells in work.counts.items()
        },
        "missing": missing + results.unmeasured_lines(work.unmeasured),
        "failed": {**unreadable, **work.failed},
        "parity": parities,
        "machine": machine.processor("model name")[0].rpartition(":")[2].strip(),
    }
    results.write_rows(folder / "metrics.csv", work.rows)
    results.write_summary(folder / "summary.json", summary)
    for line in summary["missing"]:
        _say(f"missing: {line}")
    for name, reason in summary["failed"].items():
        _say(f"failed: {file_paths.shown(name)}: {reason}")
    if not work.rows:
        _say(f"none of {len(files)} files could be measured")
        return 130 if interruption.is_requested() else 1
    written = _write_report(folder, summary, work, chosen)
    print(score_table.render(summary))
    print(
        f"\n{len(work.rows)} rows, {num_new} of them new; wrote {written} into "
        f"{file_paths.shown(folder)}"
    )
    return 130 if interruption.is_requested() else 0


def _bitrates(bandwidths: Sequence[str] | None) -> tuple[float, ...] | None:
    """Return the kbps of --bandwidths, each once; None without the flag."""
    if not bandwidths:
        return None
    try:
        bitrates = tuple(dict.fromkeys(map(float, bandwidths)))
    except ValueError:
        bitrates = (0.0,)
    if not all(0 < kbps < float("inf") for kbps in bitrates):
        got = ",".join(map(str, bandwidths))
        raise ValueError(f"--bandwidths: got {got}, must be kbps with commas between: 1.5,3,6")
    return bitrates


def _find(
    data: str | None, out: pathlib.Path, speech: Sequence[str]
) -> tuple[list[selection.EvaluationFile], dict[str, str]]:
    """Return the files, and for each folder that could not be searched the reason."""
    if data is None and not CLIPS.is_dir():  # an installed package
        raise ValueError("--data: got none, must name sound to measure on: only a clone has clips")
    found = plan.find(str(CLIPS) if data is None else data, str(out))
    paths = [path for path in found.files if path.suffix.lower() != ecdc.SUFFIX]
    if not paths:
        raise ValueError(f"--data: {file_paths.shown(str(data))}: has no sound files")
    root = paths[0].parent if found.root is None else found.root
    unreadable = dict(line.rpartition(": ")[::2] for line in found.unreadable)
    return selection.name_all(paths, root, speech), unreadable


def _write_report(
    folder: pathlib.Path,
    summary: results.Summary,
    work: runner.Runner,
    chosen: Sequence[selection.EvaluationFile],
) -> str:
    """Write report.html; return the names of all files that the run wrote."""
    items = [item for item in map(work.item, chosen) if item is not None]
    title = f"{', '.join(summary['codecs'])} on {len({row['file'] for row in work.rows})} files"
    # Imported late, as a run that fails does not need it.
    report = importlib.import_module("encodec_hk.evaluation.report")
    try:
        report.write(
            folder / "report.html", title=title, rows=work.rows, summary=summary, items=items
        )
    except ValueError as error:  # such as a missing package that the figures do not need
        summary["missing"].append(f"report.html: {error}")
        _say(f"missing: report.html: {error}")
        results.write_summary(folder / "summary.json", summary)
        return "metrics.csv and summary.json"
    return "metrics.csv, summary.json and report.html"


def _say(line: str) -> None:
    """Print a line to stderr, above the bar."""
    tqdm.tqdm.write(line, file=sys.stderr)
