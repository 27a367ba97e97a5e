"""The Debian packages of the data set, and the folder of each file.

Sources are held out whole: three of Tux Paint's languages, the music of Hedgewars, and the last
three packages, a few minutes of each. The music to train on is limited too: crops are drawn by
duration, so it would outweigh the speech.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Rule:
    r"""The folder of the files of a package whose path matches; the first rule that matches counts.

    Attributes:
      pattern: a regular expression, searched in "/path/in/the/package".
      source: the folder, in which `\1` stands for the pattern's group; None excludes the file.
      split: "train" or "heldout".
      minutes: take whole files until their sum reaches this.
    """

    pattern: str
    source: str | None
    split: str = "train"
    minutes: float = float("inf")


@dataclasses.dataclass(frozen=True)
class Package:
    """A Debian package.

    Attributes:
      name: for apt-get.
      key: a short name, part of the hash that orders the files.
      kind: its content, for the data set's table.
      licence: a summary; the package's own statement is complete.
      rules: where its files go.
      archives: suffix of ZIP archives in the package; "" if there are none.
    """

    name: str
    key: str
    kind: str
    licence: str
    rules: tuple[Rule, ...]
    archives: str = ""


_SPOKEN = r"(?:_desc|_filled|_outline|/\d)"
_CLIPS = r"/(?:loop_garzul|guit_em9|loop_tabla)\.flac$"  # in assets/clips: never train on them

PACKAGES = (
    Package(
        "tuxpaint-stamps-default",
        "tuxpaint",
        "names of things spoken in many languages, some of their sounds",
        "GPL-2",
        (
            Rule(_SPOKEN + r"_(el|es|da)\.", r"speech_\1", "heldout", 6),
            Rule(_SPOKEN + r"_([a-z]{2}(?:_[A-Za-z]{2})?)\.", r"speech_\1"),
            Rule(r"(?:_desc|/\d)\.", "speech_en"),
            Rule(r"", "effects_tuxpaint"),
        ),
    ),
    Package(
        "wesnoth-1.16-music",
        "wesnoth",
        "orchestral music",
        "GPL-2+",
        (Rule(r"/music/", "music_wesnoth", "train", 80),),
    ),
    Package(
        "ufoai-music",
        "ufoai",
        "electronic music, film music",
        "GPL-2+, CC-BY-3.0, CC-BY-SA-3.0",
        (Rule(r"/music/", "music_ufoai", "train", 100),),
        archives=".pk3",
    ),
    Package(
        "hedgewars-data",
        "hedgewars",
        "voices, effects and music of a game",
        "GFDL-1.3, CC-BY-SA-3.0",
        (
            Rule(r"/Music/", "music_hedgewars", "heldout", 6),
            Rule(r"/voices/", "speech_hedgewars"),
            Rule(r"/Sounds/", "effects_hedgewars"),
        ),
    ),
    Package(
        "hydrogen-drumkits",
        "hydrogen",
        "single strokes of drums",
        "GPL-2, GPL-2+, CC-BY-3.0, CC-BY-SA-3.0, CC0",
        (Rule(r"/drumkits/", "effects_hydrogen", "train", 20),),
    ),
    Package(
        "klettres-data",
        "klettres",
        "letters and syllables spoken in many languages",
        "GPL-2+",
        (Rule(r"/klettres/", "speech_klettres", "heldout", 6),),
    ),
    Package(
        "fillets-ng-data-cs",
        "fillets",
        "dialogues acted in Czech",
        "GPL-2",
        (Rule(r"/sound/", "speech_fillets", "heldout", 6),),
    ),
    Package(
        "sonic-pi-samples",
        "sonic-pi",
        "loops, instruments and effects, lossless",
        "CC0",
        (Rule(_CLIPS, None), Rule(r"/samples/", "music_sonic-pi", "heldout", 6)),
    ),
)
