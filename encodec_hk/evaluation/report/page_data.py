"""The data that the scripts of the page read, as JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from encodec_hk.evaluation import measures
from encodec_hk.evaluation import results
from encodec_hk.evaluation.report import pictures
from encodec_hk.evaluation.report import sounds
from encodec_hk.sound import spectrogram_image


def codecs(rows: Sequence[results.Row], summary: results.Summary) -> list[str]:
    """Return the names of codecs: those of the summary, then others in the rows."""
    return list(dict.fromkeys([*summary.get("codecs", {}), *(row["codec"] for row in rows)]))


def overview(
    rows: Sequence[results.Row], summary: results.Summary, items: Sequence[results.Item]
) -> dict[str, Any]:
    """Return the data of curves and tables, and the id under which a browser keeps scores."""
    known = summary.get("codecs", {})
    tracks = [(i.file, [(r.codec, r.kbps) for r in i.renditions]) for i in items]
    return {
        "id": hashlib.sha256(repr(tracks).encode("utf-8", "replace")).hexdigest()[:16],
        "measures": [
            {
                "key": key,
                "label": measure.label,
                "unit": measure.unit,
                "is_higher_better": measure.is_higher_better,
                "digits": measure.digits,
                "has_curve": measure.function is not None,  # the others are not about quality
            }
            for key, measure in measures.MEASURES.items()
        ],
        "codecs": [
            {"name": name, "kind": str(known.get(name, {}).get("kind", ""))}
            for name in codecs(rows, summary)
        ],
        "means": summary.get("means", {}),
        "files": {
            "all": len({(row["group"], row["file"]) for row in rows}),
            **{
                group: len({row["file"] for row in rows if row["group"] == group})
                for group in sorted({row["group"] for row in rows} - {"all"})
            },
        },
        "codebooks": summary.get("codebooks", {}),
        "gradient": pictures.gradient(),
        "range": spectrogram_image.RANGE,
    }


def listening(item: results.Item, rows: Sequence[results.Row]) -> tuple[dict[str, Any], int, int]:
    """Return the data of an item, and the bytes of its sounds and of its pictures."""
    found = {
        (row["codec"], float(row["kbps"])): row
        for row in rows
        if row["file"] == item.file and row["group"] == item.group
    }
    original = pictures.decibels(item.original, item.sample_rate)
    top = float(np.max(original))
    sizes = [0, 0]

    def uri(kind: str, content: bytes) -> str:
        sizes[kind.startswith("image")] += 4 * len(content) // 3
        return f"data:{kind};base64,{base64.b64encode(content).decode()}"

    def track(samples: np.ndarray, picture: np.ndarray) -> dict[str, Any]:
        return {
            "audio": uri("audio/flac", sounds.flac(samples, item.sample_rate)),
            "picture": uri("image/png", pictures.png(picture, top)),
        }

    tracks = [{"codec": "", "kbps": None, **track(item.original, original)}]
    for rendition in item.renditions:
        row = found.get((rendition.codec, float(rendition.kbps)), {})
        tracks.append(
            {
                "codec": rendition.codec,
                "kbps": rendition.kbps,
                "measures": {key: row[key] for key in measures.MEASURES if key in row},
                **track(rendition.samples, pictures.decibels(rendition.samples, item.sample_rate)),
            }
        )
    low_passed = sounds.anchor(item.original, item.sample_rate)
    value = {
        "file": item.file,
        "group": item.group,
        "rate": item.sample_rate,
        "channels": item.original.shape[1],
        "seconds": len(item.original) / item.sample_rate,
        "whole": max((float(row.get("seconds") or 0) for row in found.values()), default=0.0),
        "ticks": pictures.ticks(item.sample_rate),
        "tracks": tracks,
        "anchor": None
        if low_passed is None
        else uri("audio/flac", sounds.flac(low_passed, item.sample_rate)),
    }
    return value, sizes[0], sizes[1]


def script(value: Any) -> str:
    """Return JSON that cannot end its script element; NaN and infinities become null."""
    text = json.dumps(_plain(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    return _number(value)


def _number(value: Any) -> float | None:
    """Return a float, or None if the value is missing, NaN or infinite."""
    if value is None or not math.isfinite(value):
        return None
    return float(value)
