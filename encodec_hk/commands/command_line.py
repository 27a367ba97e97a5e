"""The commands of run.py and their flags."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from encodec_hk.commands import startup
from encodec_hk.system import file_paths

COMMANDS = {  # name: (arguments, flags)
    "infer": (
        "IN [OUT]",
        "checkpoint bandwidth num_codebooks sample_format rescale force suffix format recover "
        "raw_rate raw_channels raw_format",
    ),
    "convert": ("", "source output to verify licence int16 force"),
    "train": ("", "data workdir validation init licence distributed"),
    "describe": ("", ""),
    "info": ("FILE", ""),
    "bench": ("", "checkpoint bandwidth measure compare frames threads out"),
    "evaluate": (
        "",
        "checkpoint data bandwidths baselines compare out speech report_files workers",
    ),
}

_DEFAULT = f"--config={file_paths.ROOT}/configs/encodec_24khz_small.py"
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The variant; configs/encodec_24khz_small.py by default.", lock_config=True
)

flags.DEFINE_string(
    "checkpoint",
    None,
    "infer, bench, evaluate: a checkpoint, with its own configuration if there is no --config. "
    "evaluate: several with commas between, to compare models.",
)
flags.DEFINE_float("bandwidth", None, "infer, bench: kbps; a whole number of codebooks.")
flags.DEFINE_integer("num_codebooks", None, "infer: the bandwidth as a number of codebooks.")
flags.DEFINE_enum(
    "sample_format", "int16", ["int16", "int24", "float32"], "infer: the format of sound outputs."
)
flags.DEFINE_bool("force", False, "infer, convert: replace outputs that exist.")
flags.DEFINE_bool(
    "rescale", False, "infer: scale outputs that exceed full scale, instead of clipping."
)
flags.DEFINE_string(
    "suffix",
    ".wav",
    "infer: the suffix of outputs that OUT does not name, or on stdout: .ecdc, ...",
)
flags.DEFINE_enum(
    "format",
    None,
    ["v0", "v1"],
    "infer: the version of .ecdc files; v0, Meta's, is the default for Meta's models.",
)
flags.DEFINE_bool("recover", False, "infer: decode damaged blocks of .ecdc files as silence.")
flags.DEFINE_integer("raw_rate", None, "infer: Hz of headerless samples on stdin or stdout.")
flags.DEFINE_integer("raw_channels", 1, "infer: channels of headerless samples.")
flags.DEFINE_enum(
    "raw_format",
    "s16le",
    ["s16le", "s24le", "s32le", "f32le"],
    "infer: the format of headerless samples.",
)
flags.DEFINE_list(
    "measure",
    ["whole", "layers", "stream", "start"],
    "bench: what to time, with commas between: whole signals (see --config.bench), the layers of a "
    "block, single frames of a stream, the start of infer.",
)
flags.DEFINE_integer("frames", 750, "bench: the number of frames to time.")
flags.DEFINE_integer("threads", None, "bench: cores to use; the default is all.")
flags.DEFINE_string(
    "out",
    None,
    "bench: a .json file for the figures or an .md file for the tables. evaluate: the folder to "
    "write, evaluation_NAME by default; an interrupted run resumes there.",
)
flags.DEFINE_string("source", None, "convert: a file, a transformers folder or a hub name.")
flags.DEFINE_string(
    "output", None, "convert: a .safetensors file; with --to=transformers, a folder."
)
flags.DEFINE_enum("to", "haiku", ["haiku", "transformers"], "convert: the format to write.")
flags.DEFINE_bool("int16", False, "convert: store the weights as int16, at about half the size.")
flags.DEFINE_bool("verify", False, "convert: compare the result with PyTorch.")
flags.DEFINE_string("licence", None, "convert, train: the licence of the weights, if not known.")
flags.DEFINE_string(
    "data",
    None,
    "train: a folder or a quoted glob of audio. evaluate: the same or one file; the default is "
    "assets/clips.",
)
flags.DEFINE_string("workdir", None, "train: the folder of the run; an existing run resumes.")
flags.DEFINE_string(
    "validation", None, "train: audio to validate on; the default is 1 file in 20 of --data."
)
flags.DEFINE_string("init", None, "train: a checkpoint to start from.")
flags.DEFINE_string(
    "distributed",
    None,
    "train: run as one of several processes: HOST:PORT,INDEX,COUNT with the address of the first, "
    "or 'auto' on a cluster.",
)
flags.DEFINE_list(
    "bandwidths", None, "evaluate: kbps with commas between; the default is the model's."
)
flags.DEFINE_list(
    "baselines", ["opus", "mp3"], "evaluate: codecs to compare with; --baselines= is none."
)
flags.DEFINE_list(
    "compare",
    [],
    "evaluate: transformers, to compare codes with PyTorch's. bench: implementations to time, with "
    "commas between: transformers, transformers_compiled (torch.compile), encodec.",
)
flags.DEFINE_multi_string(
    "speech", None, "evaluate: a quoted glob of files that are speech although no name says so."
)
flags.DEFINE_integer("report_files", 8, "evaluate: the number of files to listen to in the report.")
flags.DEFINE_integer(
    "workers", None, "evaluate: processes that measure; the default is one per core."
)


def parse(argv: list[str]) -> list[str]:
    """Parse the flags; exit with one line on stderr if one of them or the config file is wrong.

    Args:
      argv: the command line. `--config` of the shipped model is inserted if there is no --config.

    Returns:
      The command line without its flags.
    """
    if not any(argument.lstrip("-").split("=")[0] == "config" for argument in argv[1:]):
        argv.insert(1, _DEFAULT)
    try:
        arguments = flags.FLAGS(argv)
        _CONFIG.value.lock()  # raises if the file is missing
    except Exception as error:  # a config file may raise anything
        kind = "" if isinstance(error, flags.Error) else f"--config: {type(error).__name__}: "
        sys.exit(startup.fail(kind + (str(error).strip().splitlines() or [""])[-1].strip()))
    return arguments


def settings(command: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the values of a command's flags.

    Raises:
      ValueError: if there is no such command, or it does not take these arguments or a flag that
        is present.
    """
    if command not in COMMANDS:
        raise ValueError(f"command: got {command!r}, must be one of {', '.join(COMMANDS)}")
    usage, names = COMMANDS[command][0], COMMANDS[command][1].split()
    allowed = {"": (0,), "FILE": (1,)}.get(usage, (1, 2))
    if len(arguments) not in allowed:
        hint = f"{usage} (a pattern in quotes)" if len(allowed) > 1 else usage or "none"
        raise ValueError(f"{command}: got {len(arguments)} arguments, takes {hint}")
    for name in " ".join(others for _, others in COMMANDS.values()).split():
        if flags.FLAGS[name].present and name not in names:
            raise ValueError(f"{command}: --{name} is a flag of another command")
    return {name: flags.FLAGS[name].value for name in names}


def variant(settings: Mapping[str, Any]) -> ml_collections.ConfigDict | None:
    """Return the configuration, or None to use the one that is stored with the chosen weights."""
    chosen = settings.get("checkpoint") or settings.get("source")
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    return None if chosen and sys.argv[1] == _DEFAULT and not overrides else _CONFIG.value
