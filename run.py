"""EnCodec from the command line.

python run.py infer IN [OUT]   sound through the codec and back: a file, a folder or a 'glob*'
python run.py convert          a PyTorch checkpoint in, or one of ours out to transformers
python run.py describe         the network of a config: shapes, parameters, rates, cost

Every command takes --config=configs/VARIANT.py, and any field of it as --config.FIELD=VALUE.
"""

from __future__ import annotations

import importlib
import pathlib
import signal
import sys

from absl import app
from absl import flags
from absl import logging
from ml_collections import config_flags

COMMANDS = {  # the arguments and the flags of each
    "infer": (
        "IN [OUT]",
        ("checkpoint", "bandwidth", "num_codebooks", "sample_format", "rescale"),
    ),
    "convert": ("", ("source", "output", "to", "verify", "licence")),
    "describe": ("", ()),
}
_DEFAULT_CONFIG = pathlib.Path(__file__).parent / "configs" / "encodec_24khz_small.py"

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, f"The variant, configs/{_DEFAULT_CONFIG.name} by default.", lock_config=True
)
flags.DEFINE_string("checkpoint", None, "infer: the weights; without --config, with their own.")
flags.DEFINE_float("bandwidth", None, "infer: kbps, a whole number of codebooks.")
flags.DEFINE_integer("num_codebooks", None, "infer: the same as a number of codebooks.")
flags.DEFINE_enum("sample_format", "int16", ["int16", "int24", "float32"], "infer: of the outputs.")
flags.DEFINE_bool("rescale", False, "infer: scale outputs above full scale, instead of clipping.")
flags.DEFINE_string("source", None, "convert: a file, a transformers folder or a hub name.")
flags.DEFINE_string("output", None, "convert: a .safetensors file; a folder of --to=transformers.")
flags.DEFINE_enum("to", "haiku", ["haiku", "transformers"], "convert: the form to write.")
flags.DEFINE_bool("verify", False, "convert: run PyTorch beside ours, print how far they agree.")
flags.DEFINE_string("licence", None, "convert: of the weights, where it is not known.")


def main(argv: list[str]) -> int:
    """Runs a command; returns its exit status."""
    logging.set_verbosity(logging.WARNING)  # else JAX tells of the devices that are not there
    command, *arguments = argv[1:] or [""]
    try:
        if command not in COMMANDS:
            raise ValueError(f"command: got {command!r}, must be one of {', '.join(COMMANDS)}")
        usage, names = COMMANDS[command]
        takes = usage.split()
        if not sum("[" not in name for name in takes) <= len(arguments) <= len(takes):
            hint = f"{usage} (a pattern in quotes)" if takes else "none"
            raise ValueError(f"{command}: got {len(arguments)} arguments, takes {hint}")
        module = importlib.import_module(f"encodec_hk.commands.{command}")
        settings = {name: flags.FLAGS[name].value for name in names}
        # Without --config, a checkpoint's own config holds.
        alone = _is_default() and (settings.get("checkpoint") or settings.get("source"))
        return module.run(None if alone else _CONFIG.value, *arguments, **settings)
    except ValueError as error:
        return _failed(error)


def _is_default() -> bool:
    flag = flags.FLAGS["config"]
    is_default = config_flags.get_config_filename(flag) == str(_DEFAULT_CONFIG)
    return is_default and not config_flags.get_override_values(flag)


def _parse(argv: list[str]) -> list[str]:
    """Parses the flags; what is wrong with them is one line too."""
    try:
        arguments = flags.FLAGS(argv)
        _CONFIG.value.lock()  # a file that is not there shows here
    except (flags.Error, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        sys.exit(_failed(error))
    return arguments


def _failed(error: Exception) -> int:
    """Says what is wrong with the input; returns the exit status for that."""
    kind = "no such field of the config: " if isinstance(error, AttributeError | KeyError) else ""
    text = str(error).splitlines()[-1].strip() if isinstance(error, OSError) else error
    print(f"run.py: {kind}{text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as ctrl-C does
    if not any(argument.lstrip("-").startswith("config=") for argument in sys.argv):
        sys.argv.insert(1, f"--config={_DEFAULT_CONFIG}")
    app.run(main, flags_parser=_parse)
