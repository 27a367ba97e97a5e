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
_COMMAND = re.compile(r"(?:pip|apt-get) install [^;,()]+[^;,().\s]")


def text(value: Any) -> str:
    """Return plain text as HTML."""
    return escaping.escape(str(value))


def html(title: str, rows: Sequence[results.Row], summary: results.Summary, num_items: int) -> str:
    """Return the head: title, numbers, what is missing or failed, codecs, parity."""
    seconds = {(row["group"], row["file"]): row["seconds"] for row in rows}
    num_groups = len({row["group"] for row in rows})
    names = page_data.codecs(rows, summary)
    facts = [
        _count(len(seconds), "file"),
        _count(num_groups, "group") if num_groups > 1 else "",
        f"{_duration(sum(seconds.values()))} of audio",
        _count(len(names), "codec"),
        f"{num_items} to listen to" if num_items else "",
    ]
    failed = summary.get("failed", {})
    known = summary.get("codecs", {})
    machine = summary.get("machine")
    parity = summary.get("parity")
    parts = [
        f"<h1>{_breakable(title)}</h1>",
        f'<p class="lead">{" · ".join(filter(None, facts))}</p>',
        _notice("Not measured", [_with_commands(line) for line in summary.get("missing", ())]),
        _notice(
            f"{_count(len(failed), 'file')} failed and do not count below",
            [f"<b>{text(file)}</b>: {text(reason)}" for file, reason in failed.items()],
        ),
        f'<p class="small">Speeds were measured on {text(machine)}.</p>' if machine else "",
        '<div class="codecs">',
        *(_codec(name, known.get(name, {})) for name in names),
        "</div>",
    ]
    if parity:
        parts += [
            '<h2 id="parity">Parity with the reference</h2><div class="codecs">',
            *(
                f'<div class="card"><h3>{text(name)}</h3>{_facts(found)}</div>'
                for name, found in parity.items()
            ),
            "</div>",
        ]
    return "\n".join(filter(None, parts))


def sizes(whole: int, sound: int, pictures: int) -> str:
    """Return a sentence on the size of the page; arguments in bytes."""
    line = f"This page is one file of {_megabytes(whole)} and loads nothing else"
    if not sound:
        return f"{line}."
    return (
        f"{line}: {_megabytes(sound)} are sounds (16 bit FLAC in Base64), "
        f"{_megabytes(pictures)} spectrograms."
    )


def _notice(heading: str, lines: Sequence[str]) -> str:
    """Return a list of lines of HTML under a heading; nothing if there are none."""
    items = "".join(f"<li>{line}</li>" for line in lines)
    content = f"<h2>{text(heading)}</h2><ul>{items}</ul>"
    return f'<aside class="notice">{content}</aside>' if lines else ""


def _codec(name: str, known: Mapping[str, Any]) -> str:
    kind = known.get("kind", "")
    label = f"<p>{text(_KINDS.get(kind, kind))}</p>" if kind else ""
    rest = _facts({key: value for key, value in known.items() if key != "kind"})
    content = f"<h3>{_breakable(name)}</h3>{label}{rest}"
    return f'<div class="card" data-codec="{text(name)}">{content}</div>'


def _facts(values: Mapping[str, Any]) -> str:
    pairs = [
        f"<div><dt>{text(_WORDS.get(key, key.replace('_', ' ')))}</dt>{_fact(key, value)}</div>"
        for key, value in values.items()
        if value not in (None, "")
    ]
    return f"<dl>{''.join(pairs)}</dl>" if pairs else ""


def _fact(key: str, value: Any) -> str:
    shown = _value(value) + (" Hz" if key.endswith("sample_rate") else "")
    if re.fullmatch("[0-9a-f]{24,}", shown):  # the start identifies a digest
        return f'<dd title="{shown}">{shown[:12]}…</dd>'
    return f"<dd>{_breakable(shown)}</dd>"


def _breakable(value: str) -> str:
    """Return plain text as HTML that may wrap after _ and /."""
    return re.sub(r"([_/])", r"\1<wbr>", text(value))


def _value(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1 else f"{value:.4g}"  # 0.99998 needs its nines
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return str(value)


def _with_commands(line: str) -> str:
    """Return a line as HTML, with commands set as code."""
    return _COMMAND.sub(r"<code>\g<0></code>", escaping.escape(line, quote=False))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{max(1, round(size / 1e3))} kB"
