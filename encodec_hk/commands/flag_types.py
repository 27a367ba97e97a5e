"""What a command takes: the form in which `usage.COMMANDS` says it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Flag(NamedTuple):
    """A flag of a command.

    Attributes:
      name: without the dashes. Commands that share a name share kind and default; but each allows
        its own names.
      kind: string, number, integer, switch, list (with commas between), repeated (the flag may be
        given several times), or a tuple of the allowed names.
      value: what stands for the value in help; unused for switches and names.
      text: what it means, with units and allowed values.
      default: its value if the flag is absent.
      otherwise: the default in words, where the command works it out or the value says little.
    """

    name: str
    kind: str | tuple[str, ...]
    value: str
    text: str
    default: Any = None
    otherwise: str = ""


class Command(NamedTuple):
    """A command.

    Attributes:
      summary: one line of the overview.
      text: what the command does. In all texts, {train} stands for the command that installs the
        extra of that name.
      flags: in the order of help.
      arguments: names and meanings; a name in brackets may be left out.
      examples: what follows the name of the program.
    """

    summary: str
    text: str
    flags: tuple[Flag, ...] = ()
    arguments: tuple[tuple[str, str], ...] = ()
    examples: tuple[str, ...] = ()


CHECKPOINT = Flag(
    "checkpoint",
    "string",
    "MODEL",
    "The model to load: a .safetensors file, a transformers folder, a hub name such as "
    "facebook/encodec_24khz ({hub}), or the name of a shipped model. Without --config, its own "
    "config is used.",
    otherwise="the config's",
)
LICENCE = Flag(
    "licence",
    "string",
    "TEXT",
    "Licence of the weights, stored in the checkpoint.",
    otherwise="what is known of the source",
)
SAMPLE_FORMAT = Flag(
    "sample_format",
    ("int16", "int24", "float32"),
    "",
    "Format of the samples in sound files. Containers without samples, such as .mp3, ignore it.",
    "int16",
)
RESCALE = Flag(
    "rescale",
    "switch",
    "",
    "Scale an output that exceeds full scale, instead of clipping it.",
)
FORCE = Flag("force", "switch", "", "Replace outputs that exist, instead of keeping them.")
NUM_CODEBOOKS = Flag(
    "num_codebooks",
    "integer",
    "N",
    "The bandwidth as a number of codebooks, in place of --bandwidth.",
    otherwise="that of the bandwidth",
)
TRAINING_DATA = Flag(
    "data",
    "string",
    "SOUND",
    "Sound to train on: a folder (searched recursively) or a pattern in quotes.",
    otherwise="required",
)
WORKDIR = Flag(
    "workdir",
    "string",
    "FOLDER",
    "Folder of the run, created if missing. A run that is there is resumed.",
    otherwise="required",
)
