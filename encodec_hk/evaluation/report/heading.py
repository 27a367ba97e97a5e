"""The head of the page, readable without scripts: what was evaluated and what is missing."""

from __future__ import annotations

import html as escaping
import re
from collections.abc import Mapping, Sequence
from typing import Any

from encodec_hk.evaluation import results
from encodec_hk.evaluation.report import page_data

_KINDS = {"encodec": "EnCodec model", "opus": "Opus, the baseline", "mp3": "MP3, the baseline"}
# Labels of the fields of parity; other fields are labelled by their names.
_WORDS = {
    "equal": "share of equal codes",
    "codes": "codes compared",
    "difference": "largest difference in audio",
    "peak": "peak of the audio",
}
_COMMAND = re.compile(
    r"`(?P<quoted>[^`]+)`"
    r"|(?:python3? -m )?(?:pip|apt(?:-get)?|brew|conda) install [^`;,()]+[^`;,().\s]"
)


def text(value: Any) -> str:
    """Return plain text as HTML."""
    return escaping.escape(str(value))


def html(
    title: str,
    rows: Sequence[results.Row],
    summary: results.Summary,
    items: Sequence[results.Item],
) -> str:
    """Return the head: title, numbers, what is missing or failed, codecs, parity."""
    files = {(row["group"], row["file"]): float(row.get("seconds", 0)) for row in rows}
    groups = sorted({row["group"] for row in rows})
    names = page_data.codecs(rows, summary)
    facts = [
        _count(len(files), "file"),
        *([_count(len(groups), "group")] if len(groups) > 1 else []),
        _duration(sum(files.values())) + " of audio",
        _count(len(names), "codec"),
    ]
    if items:
        facts.append(f"{len(items)} to listen to")
    parts = [f"<h1>{_breakable(title)}</h1>", f'<p class="lead">{" · ".join(facts)}</p>']
    if summary.get("missing"):
        lines = "".join(f"<li>{_with_commands(line)}</li>" for line in summary["missing"])
        parts.append(_notice("Not measured", f"<ul>{lines}</ul>"))
    if summary.get("failed"):
        lines = "".join(
            f"<li><b>{text(file)}</b>: {text(reason)}</li>"
            for file, reason in summary["failed"].items()
        )
        count = _count(len(summary["failed"]), "file")
        parts.append(_notice(f"{count} failed and do not count below", f"<ul>{lines}</ul>"))
    if summary.get("machine"):
        parts.append(f'<p class="small">Speeds were measured on {text(summary["machine"])}.</p>')
    parts.append('<div class="codecs">')
    for name in names:
        parts.append(_codec(name, summary.get("codecs", {}).get(name, {})))
    parts.append("</div>")
    if summary.get("parity"):
        parts.append('<h2 id="parity">Parity with the reference</h2><div class="codecs">')
        for name, found in summary["parity"].items():
            parts.append(f'<div class="card"><h3>{text(name)}</h3>{_facts(found)}</div>')
        parts.append("</div>")
    return "\n".join(parts)


def sizes(whole: int, sound: int, pictures: int) -> str:
    """Return a sentence on the size of the page; arguments in bytes."""
    line = f"This page is one file of {_megabytes(whole)} and loads nothing else"
    if not sound:
        return f"{line}."
    return (
        f"{line}: {_megabytes(sound)} are sounds (16 bit FLAC in Base64), "
        f"{_megabytes(pictures)} spectrograms."
    )


def _codec(name: str, known: Mapping[str, Any]) -> str:
    kind = str(known.get("kind", ""))
    rest = {key: value for key, value in known.items() if key not in ("kind", "name")}
    label = f"<p>{text(_KINDS.get(kind, kind))}</p>" if kind else ""
    heading = f"<h3>{_breakable(name)}</h3>"
    return f'<div class="card" data-codec="{text(name)}">{heading}{label}{_facts(rest)}</div>'


def _facts(values: Any) -> str:
    if not isinstance(values, Mapping):
        return f"<p>{text(_value(values))}</p>"
    pairs = "".join(
        f"<div><dt>{text(_words(key))}</dt>{_fact(key, value)}</div>"
        for key, value in values.items()
        if value is not None and value != ""
    )
    return f"<dl>{pairs}</dl>" if pairs else ""


def _fact(key: Any, value: Any) -> str:
    shown = _value(value) + (" Hz" if str(key).endswith("sample_rate") else "")
    if re.fullmatch("[0-9a-f]{24,}", shown):  # the start identifies a digest
        return f'<dd title="{shown}">{shown[:12]}…</dd>'
    return f"<dd>{_breakable(shown)}</dd>"


def _words(key: Any) -> str:
    return _WORDS.get(str(key), str(key).replace("_", " "))


def _breakable(value: Any) -> str:
    """Return plain text as HTML that may wrap after _ and /."""
    return re.sub(r"([_/])", r"\1<wbr>", text(value))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1 else f"{value:.4g}"  # 0.99998 needs its nines
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(k)} {_value(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_value(part) for part in value)
    return str(value)


def _notice(heading: str, content: str) -> str:
    return f'<aside class="notice"><h2>{text(heading)}</h2>{content}</aside>'


def _with_commands(line: str) -> str:
    """Return a line as HTML, with commands set as code."""
    parts, end = [], 0
    for match in _COMMAND.finditer(line):
        parts += [
            text(line[end : match.start()]),
            f"<code>{text(match['quoted'] or match[0])}</code>",
        ]
        end = match.end()
    return "".join([*parts, text(line[end:])])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{max(1, round(size / 1e3))} kB"
