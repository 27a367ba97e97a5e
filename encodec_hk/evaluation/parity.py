"""Models beside PyTorch's, of the same checkpoint and on the same files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from encodec_hk.convert import verify
from encodec_hk.evaluation import excerpts
from encodec_hk.evaluation import journals
from encodec_hk.evaluation import model_coder
from encodec_hk.evaluation import runner
from encodec_hk.evaluation import selection
from encodec_hk.sound import sound_files
from encodec_hk.system import interruption


def compare_all(
    models: Sequence[model_coder.ModelCoder],
    found: Sequence[selection.EvaluationFile],
    journal: journals.Journal,
    missing: list[str],
    say: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Encodes files with both networks, at all codebooks, and decodes PyTorch's codes with both.

    Of a longer file, the middle 10 s are taken. The PyTorch network is what transformers loads of
    the folder that `run.py convert --to=transformers` would write.

    Args:
      models: ours.
      found: the files; what cannot be read is passed over, it is reported already.
      journal: where finished files are found, and noted.
      missing: gets a line for what cannot be compared.
      say: prints a line.

    Returns:
      By model: equal (share of equal codes, 0 to 1), by_codebook (the same of each), codes and
      files (how many), difference (the largest of a sample, full scale 1), peak (largest sample).
    """
    parities = {}
    for model in models:
        comparisons: list[dict[str, Any]] = []
        network = None
        for source in found:
            interruption.check()
            try:
                status = source.path.stat()
                key = journals.key_of(
                    "parity", source.file, status.st_size, status.st_mtime_ns, model.identity
                )
                entry = journal.get(key)
                if entry is None:
                    sound = sound_files.read(source.path)
            except (ValueError, OSError):
                continue
            if entry is None:
                if network is None:
                    say(f"{model.name}: beside transformers")
                    try:
                        network = verify.exported(model.codec)
                    except ValueError as error:
                        missing.append(f"--compare=transformers: {model.name}: {error}")
                        break
                form = model.sample_rate, model.channels
                samples = excerpts.middle(runner.prepare(sound, *form), model.sample_rate)
                comparison = verify.compare(model.codec, network, samples)
                entry = dataclasses.asdict(comparison)
                entry["equal"] = comparison.equal.tolist()
                journal.add(key, entry)
            comparisons.append(entry)
        if comparisons:
            parities[model.name] = _merged(comparisons)
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
