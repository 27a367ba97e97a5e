"""Fills the template of the page."""

from __future__ import annotations

import importlib.resources
import os
import re
from collections.abc import Sequence

from encodec_hk.evaluation import results
from encodec_hk.evaluation.report import heading
from encodec_hk.evaluation.report import page_data
from encodec_hk.system import part_file

_SCRIPTS = ("data", "charts", "tables", "deck", "player", "trial", "scores", "listening", "main")
_STYLES = ("page", "parts")


def write(
    path: str | os.PathLike[str],
    *,
    title: str,
    rows: Sequence[results.Row],
    summary: results.Summary,
    items: Sequence[results.Item],
) -> None:
    """Write the report: one HTML file that needs no other file and no network.

    It holds curves of quality by bitrate, tables of means, a player with spectrograms per file, and
    a blind listening test after ITU-R BS.1534. Sound is 16 bit FLAC at the item's sample rate.

    The title is plain text. The page omits measures that are missing or NaN, and what the summary
    lacks; without items to listen to, each [T, C] with T at least 1, it has no players and no test.

    Raises:
      ValueError: if there is no row, a rendition's shape differs from its original's, or Pillow,
        which draws the spectrograms, is not installed.
      OSError: if the file cannot be written.
    """
    if not rows:
        raise ValueError("rows: got none, must be at least one")
    for item in items:
        shape = item.original.shape
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"{item.file}: got an original of shape {shape}, must be [T, C]")
        for rendition in item.renditions:
            if rendition.samples.shape != shape:
                raise ValueError(
                    f"{item.file}: got {rendition.codec} at {rendition.kbps:g} kbps of shape "
                    f"{rendition.samples.shape}, must be the original's {shape}"
                )

    listening = [page_data.listening(item, rows) for item in items]
    tracks = [track for value in listening for track in value["tracks"]]
    sound_size = sum(len(track["audio"]) for track in tracks)
    sound_size += sum(len(value["anchor"] or "") for value in listening)
    elements = [
        page_data.element('id="overview"', page_data.overview(rows, summary, items)),
        *(page_data.element('class="item"', value) for value in listening),
    ]
    parts = {
        "title": heading.text(title),
        "style": "".join(_template(f"{name}.css") for name in _STYLES),
        "header": heading.html(title, rows, summary, len(items)),
        "data": "\n".join(elements),
        "script": "".join(_template(f"{name}.js") for name in _SCRIPTS),
        "size": "",
    }
    template = _template("page.html")
    whole = sum(len(part) for part in (template, *parts.values()))
    picture_size = sum(len(track["picture"]) for track in tracks)
    parts["size"] = heading.sizes(whole, sound_size, picture_size)
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)

    part_file.write(path, text.encode("utf-8", "replace"))


def _template(name: str) -> str:
    return importlib.resources.files(__package__).joinpath("template", name).read_text("utf-8")
