"""The means of an evaluation as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from encodec_hk.evaluation import measures
from encodec_hk.evaluation import results
from encodec_hk.system import columns


def render(summary: results.Summary) -> str:
    """Return tables for all files and for each of several groups, then statistics of codes."""
    groups = summary["means"]
    names = [name for name in groups if name != results.ALL]
    parts = [_table(f"all {_count(groups[results.ALL])}", groups[results.ALL])]
    if len(names) > 1:
        parts += [_table(f"{name}: {_count(groups[name])}", groups[name]) for name in names]
    codes = [line for codec, cells in summary["codebooks"].items() for line in _codes(codec, cells)]
    if codes:
        parts.append("\n".join(["codes, means over codebooks", *codes]))
    for codec, parity in summary["parity"].items():
        parts.append(
            f"{codec} beside PyTorch: {parity['equal']:.3%} of {parity['codes']} codes equal, "
            f"audio differs by at most {parity['difference']:.2e} (peak {parity['peak']:.2f})"
        )
    return "\n\n".join(parts)


def _count(codecs: Mapping[str, Any]) -> str:
    """Return how many files a group has: as many as its most complete cell."""
    cells = [cell for rates in codecs.values() for cell in rates.values()]
    count = max((value["count"] for cell in cells for value in cell.values()), default=0)
    return f"{count} file{'s' if count != 1 else ''}"


def _table(title: str, codecs: Mapping[str, Any]) -> str:
    shown = {
        name: measure
        for name, measure in measures.MEASURES.items()
        if any(name in cell for cells in codecs.values() for cell in cells.values())
    }
    first, second = zip(*(measure.head for measure in shown.values()), strict=True)
    lines: list[Sequence[str]] = [("", "kbps", *first), ("", "", *second)]
    for codec, cells in codecs.items():
        for kbps, cell in cells.items():
            values = (
                f"{cell[name]['mean']:.{measure.digits}f}" if name in cell else "-"
                for name, measure in shown.items()
            )
            lines.append((codec, kbps, *values))
    return "\n".join([title, columns.aligned(lines)])


def _codes(codec: str, cells: Mapping[str, Any]) -> list[str]:
    lines = []
    for kbps, codebooks in cells.items():
        size = codebooks[0]["used"] + codebooks[0]["dead"]
        means = {
            name: sum(codebook[name] for codebook in codebooks) / len(codebooks)
            for name in ("entropy", "perplexity", "dead")
        }
        lines.append(
            f"{codec} {kbps} kbps: entropy {means['entropy']:.2f} of {(size - 1).bit_length()} "
            f"bits, perplexity {means['perplexity']:.0f} of {size}, unused {means['dead']:.0f}"
        )
    return lines
