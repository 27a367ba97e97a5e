"""Models beside PyTorch's, with the same weights on the same files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from encodec_hk.convert import verify
from encodec_hk.evaluation import coders
from encodec_hk.evaluation import excerpts
from encodec_hk.evaluation import journals
from encodec_hk.evaluation import model_coder
from encodec_hk.evaluation import selection
from encodec_hk.sound import sound_files
from encodec_hk.system import interruption


def compare_all(
    models: Sequence[model_coder.ModelCoder],
    files: Sequence[selection.EvaluationFile],
    journal: journals.Journal,
    missing: list[str],
    say: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Encode files with both networks, at all codebooks, and decode PyTorch's codes with both.

    Only the middle 10 s of a longer file are compared. The PyTorch network is what transformers
    loads from the folder that `run.py convert --to=transformers` writes.

    Unreadable files are skipped, as the runner reports them. The journal keeps finished
    comparisons; `missing` gets a line for each model that cannot be compared; `say` prints a line.

    Returns:
      By model: equal (share of equal codes, 0 to 1), by_codebook (the same per codebook), codes and
      files (how many), difference (of the two decoded signals, largest, full scale 1), peak
      (largest sample).
    """
    parities = {}
    for model in models:
        entries: list[dict[str, Any]] = []
        network = None
        for file in files:
            interruption.check()
            try:
                key = journals.key_of("parity", *file.stamp(), model.identity)
                entry = journal.get(key)
                if entry is not None:
                    entries.append(entry)
                    continue
                sound = sound_files.read(file.path)
            except (ValueError, OSError):
                continue
            if network is None:
                say(f"{model.name}: comparing with transformers")
                try:
                    network = verify.exported(model.codec)
                except ValueError as error:
                    missing.append(f"--compare=transformers: {model.name}: {error}")
                    break
            samples = coders.prepare(sound, model.sample_rate, model.channels)
            samples = excerpts.middle(samples, model.sample_rate)
            entry = dataclasses.asdict(verify.compare(model.codec, network, samples))
            entry["equal"] = entry["equal"].tolist()
            journal.add(key, entry)
            entries.append(entry)
        if entries:
            parities[model.name] = _merged(entries)
    return parities


def _merged(comparisons: Sequence[dict[str, Any]]) -> dict[str, Any]:
    frames = np.array([comparison["frames"] for comparison in comparisons])
    equal = np.array([comparison["equal"] for comparison in comparisons])
    by_codebook = frames @ equal / frames.sum()
    return {
        "equal": float(by_codebook.mean()),
        "by_codebook": by_codebook.tolist(),
        "codes": int(frames.sum() * equal.shape[1]),
        "files": len(comparisons),
        "difference": max(comparison["difference"] for comparison in comparisons),
        "peak": max(comparison["peak"] for comparison in comparisons),
    }
