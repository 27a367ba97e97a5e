"""Make the sounds and the picture of a page to listen to: the same clips at several bit rates.

    python -m encodec_hk.evaluation.listening OUT [--clips=FILE,FILE] [--checkpoint=MODEL]

Codes each clip with a model at 3, 6 and 12 kbps and with Opus at 6 and 12 kbps. Writes each version
as 16-bit FLAC to OUT/CLIP_VERSION.flac, and a spectrogram of each to OUT/spectrograms.png: a row
for each clip, a column for each version, one scale of levels in a row. docs/listen/ is made this
way.
"""

from __future__ import annotations

import argparse
import io
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

import encodec_hk
from encodec_hk.evaluation import baseline_coder
from encodec_hk.evaluation import coders
from encodec_hk.evaluation import model_coder
from encodec_hk.evaluation.report import pictures
from encodec_hk.evaluation.report import sounds
from encodec_hk.sound import sound_files
from encodec_hk.system import extras
from encodec_hk.system import file_paths
from encodec_hk.system import part_file

MODEL_KBPS = (3.0, 6.0, 12.0)
OPUS_KBPS = (6.0, 12.0)

_MODEL = "encodec_24khz_small"
_CLIPS = ("speech_reading.flac", "music_guitar.flac")
_SECONDS = 7.0  # of a clip that are used

# Sizes of the picture, in pixels.
_PANEL = (264, 200)
_GAP, _LEFT, _TOP, _BOTTOM = 8, 56, 34, 36
_FONT_SIZE = 17
_INK = "#1f2328"


class Version(NamedTuple):
    """A clip as one codec returns it.

    Attributes:
      label: what to write above its spectrogram.
      suffix: of its file's name.
      samples: float32 [T, C].
    """

    label: str
    suffix: str
    samples: np.ndarray


def make(folder: pathlib.Path, codec: encodec_hk.Codec, clips: Sequence[pathlib.Path]) -> None:
    """Write the sounds and the picture of `clips` to a folder, which is made if it is missing.

    Raises:
      ValueError: a clip cannot be read, or opus-tools is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for clip in clips:
        rows[clip.stem] = list(_versions(codec, clip))
        for version in rows[clip.stem]:
            data = sounds.flac(version.samples, codec.sample_rate)
            part_file.write(folder / f"{clip.stem}_{version.suffix}.flac", data)
    part_file.write(folder / "spectrograms.png", picture(rows, codec.sample_rate))


def picture(rows: Mapping[str, Sequence[Version]], sample_rate: int) -> bytes:
    """Return a PNG with a row of spectrograms for each clip, and the labels of the first above.

    All sounds of a row have the same length.
    """
    image, draw, font = (
        extras.require(f"PIL.{name}", "evaluate") for name in ("Image", "ImageDraw", "ImageFont")
    )
    width, height = _PANEL
    columns = max(map(len, rows.values()))
    size = _LEFT + columns * (width + _GAP), _TOP + len(rows) * (height + _BOTTOM)
    sheet = image.new("RGB", size, "white")
    pen, letters = draw.Draw(sheet), font.load_default(_FONT_SIZE)
    for row, versions in enumerate(rows.values()):
        y = _TOP + row * (height + _BOTTOM)
        drawn = [pictures.decibels(version.samples, sample_rate) for version in versions]
        top = float(drawn[0].max())
        for label, at in pictures.ticks(sample_rate):
            pen.text(
                (_LEFT - 6, y + height * (1 - at)),
                label.replace(" kHz", "k"),
                fill=_INK,
                font=letters,
                anchor="rm",
            )
        for column, (version, levels) in enumerate(zip(versions, drawn, strict=True)):
            x = _LEFT + column * (width + _GAP)
            panel = image.open(io.BytesIO(pictures.png(levels, top))).convert("RGB")
            sheet.paste(panel.resize(_PANEL, image.Resampling.BILINEAR), (x, y))
            if row == 0:
                middle = x + width / 2, _TOP / 2
                pen.text(middle, version.label, fill=_INK, font=letters, anchor="mm")
        seconds = len(versions[0].samples) / sample_rate
        name = f"{list(rows)[row]}, {seconds:.1f} s"
        pen.text((_LEFT, y + height + 4), name, fill=_INK, font=letters, anchor="la")
    file = io.BytesIO()
    sheet.quantize(128, dither=image.Dither.NONE).save(file, "png", optimize=True)
    return file.getvalue()


def _versions(codec: encodec_hk.Codec, clip: pathlib.Path) -> Iterator[Version]:
    """Yield the original of a clip, then what the model and Opus return."""
    rate, channels = codec.sample_rate, codec.channels
    original = coders.prepare(sound_files.read(clip), rate, channels)[: int(_SECONDS * rate)]
    yield Version("original", "original", original)
    model = model_coder.ModelCoder(codec, MODEL_KBPS, codec.name, codec.source)
    opus = baseline_coder.Baseline("opus", rate, channels, OPUS_KBPS)
    for name, coder, bitrates in (("EnCodec", model, MODEL_KBPS), ("Opus", opus, OPUS_KBPS)):
        for kbps in bitrates:
            samples = coder.code(original, kbps).samples
            yield Version(f"{name}, {kbps:g} kbps", f"{name.lower()}_{kbps:g}kbps", samples)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="listening", description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("out", type=pathlib.Path, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--clips", help="files with commas between; by default two of a clone's assets/clips"
    )
    parser.add_argument(
        "--checkpoint",
        default=_MODEL,
        help="what encodec_hk.load takes; the shipped model by default",
    )
    flags = parser.parse_args(arguments)
    if flags.clips:
        clips = [pathlib.Path(clip) for clip in flags.clips.split(",")]
    else:
        clips = [file_paths.ROOT / "assets/clips" / name for name in _CLIPS]
    try:
        make(flags.out, encodec_hk.load(flags.checkpoint), clips)
    except (ValueError, OSError) as error:
        print(f"listening: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
