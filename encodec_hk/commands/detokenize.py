"""`run.py detokenize`: the rows of a data set of codes as sound, to listen to."""

from __future__ import annotations

import sys
import time
from typing import Any

import ml_collections
import tqdm

from encodec_hk import tokens
from encodec_hk.commands import checkpoints
from encodec_hk.system import extras
from encodec_hk.system import file_paths
from encodec_hk.system import interruption


def run(
    variant: ml_collections.ConfigDict | None,
    inputs: str,
    folder: str,
    *,
    checkpoint: str | None = None,
    **settings: Any,
) -> int:
    """Decode rows to sound files, and print what was done.

    Args:
      variant: a whole configuration; None for the checkpoint's.
      inputs: IN, a Parquet file, a folder or a glob, see `tokens.open`.
      folder: where to write a file for each row.
      checkpoint: what `encodec_hk.load` takes; None for the file that the configuration names.
      settings: fields of `detokenizer.DetokenizeOptions`.

    Returns:
      The exit status: 0; 1 if rows were skipped; 130 if interrupted.

    Raises:
      ValueError: if an argument is wrong, the codes are of another checkpoint, or the only row
        fails.
    """
    extras.require("pyarrow", "tokens")
    from encodec_hk.tokens import detokenizer

    options = detokenizer.DetokenizeOptions(**settings)
    work = detokenizer.Detokenizer(tokens.open(inputs), folder, options)
    failures: list[str] = []
    done, written = 0, 0.0
    bar = tqdm.tqdm(total=len(work.jobs), unit="row", disable=not sys.stderr.isatty())

    def settle(result: Any) -> None:
        nonlocal done, written
        bar.update()
        for warning in result.warnings:
            tqdm.tqdm.write(warning, file=sys.stderr)
        if result.error is not None:
            if len(work.jobs) == 1:
                raise result.error
            failures.append(str(result.error))
            return
        done += 1
        written += result.seconds
        if bar.disable:
            target = file_paths.shown(result.job.target)
            print(f"[{done}/{len(work.jobs)}] {result.job.id} -> {target}", flush=True)

    start = time.perf_counter()
    try:
        if work.jobs:
            work.run(checkpoints.load_codec(variant, checkpoint), settle)
    except KeyboardInterrupt:
        tqdm.tqdm.write(f"interrupted: {done} of {len(work.jobs)} rows written", file=sys.stderr)
        return 130
    finally:
        bar.close()
    seconds = time.perf_counter() - start
    print(
        f"{done} of {len(work.jobs)} rows, {written:.1f} s of audio in {seconds:.1f} s "
        f"({written / seconds:.2f} times real time)"
    )
    if work.kept:
        print(
            f"kept {len(work.kept)} that exist already, such as "
            f"{file_paths.shown(work.kept[0])}; --force replaces them"
        )
    if failures:
        print(f"skipped {len(failures)}:", file=sys.stderr)
        print(*failures, sep="\n", file=sys.stderr)
    if interruption.is_requested():
        return 130
    return 1 if failures else 0
