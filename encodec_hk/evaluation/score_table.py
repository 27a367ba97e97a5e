"""The means of an evaluation as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from encodec_hk.evaluation import results
from encodec_hk.evaluation import summaries
from encodec_hk.system import columns

_HEADS = {
    "si_snr": ("SI-SNR", "dB"),
    "si_snr_windows": ("5 s", "dB"),
    "visqol": ("ViSQOL", "audio"),
    "visqol_speech": ("ViSQOL", "speech"),
    "pesq": ("PESQ", "wide"),
    "stoi": ("STOI", ""),
    "mel_distance": ("mel", "log10"),
    "log_spectral_distance": ("LSD", "dB"),
    "payload_kbps": ("payload", "kbps"),
    "total_kbps": ("file", "kbps"),
    "encode_speed": ("encode", "x real"),
    "decode_speed": ("decode", "x real"),
}


def render(summary: results.Summary) -> str:
    """Tables of all files and of every group, and what is known of codes."""
    groups = summary["means"]
    # One group is all files.
    names = [name for name in groups if name != summaries.ALL]
    parts = [_table(f"all {_count(groups[summaries.ALL])}", groups[summaries.ALL])]
    if len(names) > 1:
        parts += [_table(f"{name}: {_count(groups[name])}", groups[name]) for name in names]
    codes = [line for codec, cells in summary["codebooks"].items() for line in _codes(codec, cells)]
    if codes:
        parts.append("\n".join(["codes, means over codebooks", *codes]))
    for codec, parity in summary["parity"].items():
        parts.append(
            f"{codec} beside PyTorch: {parity['equal']:.3%} of {parity['codes']} codes equal, "
            f"audio differs by {parity['difference']:.2e} at most (peak {parity['peak']:.2f})"
        )
    return "\n\n".join(parts)


def _count(codecs: Mapping[str, Any]) -> str:
    """How many files a group has: as many as its most complete cell."""
    count = max(
        (
            value["count"]
            for cells in codecs.values()
            for cell in cells.values()
            for value in cell.values()
        ),
        default=0,
    )
    return f"{count} file{'s' if count != 1 else ''}"


def _table(title: str, codecs: Mapping[str, Any]) -> str:
    shown = [
        measure
        for measure in results.MEASURES
        if any(measure in cell for cells in codecs.values() for cell in cells.values())
    ]
    lines: list[Sequence[str]] = [
        ("", "kbps", *(_HEADS[measure][0] for measure in shown)),
        ("", "", *(_HEADS[measure][1] for measure in shown)),
    ]
    for codec, cells in codecs.items():
        for kbps, cell in cells.items():
            values = (
                f"{cell[measure]['mean']:.{results.MEASURES[measure].digits}f}"
                if measure in cell
                else "-"
                for measure in shown
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
