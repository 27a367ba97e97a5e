"""The data that the scripts of the page read, as JSON."""

from __future__ import annotations

import base64
import collections
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from encodec_hk.evaluation import measures
from encodec_hk.evaluation import results
from encodec_hk.evaluation.report import pictures
from encodec_hk.evaluation.report import sounds
from encodec_hk.sound import spectra


def codecs(rows: Sequence[results.Row], summary: results.Summary) -> list[str]:
    """Return the names of codecs: those of the summary, then others in the rows."""
    return list(dict.fromkeys([*summary.get("codecs", {}), *(row["codec"] for row in rows)]))


def overview(
    rows: Sequence[results.Row], summary: results.Summary, items: Sequence[results.Item]
) -> dict[str, Any]:
    """Return the data of curves and tables, and the id under which a browser keeps scores."""
    known = summary.get("codecs", {})
    files = {(row["group"], row["file"]) for row in rows}
    groups = collections.Counter(group for group, _ in sorted(files) if group != results.ALL)
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
            {"name": name, "kind": known.get(name, {}).get("kind", "")}
            for name in codecs(rows, summary)
        ],
        "means": summary.get("means", {}),
        "files": {results.ALL: len(files), **groups},
        "codebooks": summary.get("codebooks", {}),
        "gradient": pictures.gradient(),
        "range": spectra.RANGE,
    }


def listening(item: results.Item, rows: Sequence[results.Row]) -> dict[str, Any]:
    """Return the data of an item, with its sounds and pictures as URIs."""
    rate = item.sample_rate
    found = {
        (row["codec"], row["kbps"]): row
        for row in rows
        if row["file"] == item.file and row["group"] == item.group
    }
    original = pictures.decibels(item.original, rate)
    top = float(np.max(original))

    def track(samples: np.ndarray, picture: np.ndarray) -> dict[str, str]:
        return {
            "audio": _uri("audio/flac", sounds.flac(samples, rate)),
            "picture": _uri("image/png", pictures.png(picture, top)),
        }

    tracks: list[dict[str, Any]] = [{"codec": "", "kbps": None, **track(item.original, original)}]
    for rendition in item.renditions:
        row = found.get((rendition.codec, rendition.kbps), {})
        tracks.append(
            {
                "codec": rendition.codec,
                "kbps": rendition.kbps,
                "measures": {key: row[key] for key in measures.MEASURES if key in row},
                **track(rendition.samples, pictures.decibels(rendition.samples, rate)),
            }
        )
    anchor = sounds.anchor(item.original, rate)
    return {
        "file": item.file,
        "group": item.group,
        "rate": rate,
        "channels": item.original.shape[1],
        "seconds": len(item.original) / rate,
        "whole": max((row["seconds"] for row in found.values()), default=0.0),
        "ticks": pictures.ticks(rate),
        "tracks": tracks,
        "anchor": None if anchor is None else _uri("audio/flac", sounds.flac(anchor, rate)),
    }


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def element(attribute: str, value: Any) -> str:
    """Return a script element of JSON that cannot end it; NaN and infinities become null."""
    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    text = json.dumps(finite, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" {attribute}>{text}</script>'
