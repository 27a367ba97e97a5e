"""EnCodec from the command line.

python run.py infer IN [OUT]   sound through the codec and back: a file, a folder or a 'glob*'
python run.py train            a variant, on audio of your own: --data, --workdir
python run.py convert          a PyTorch checkpoint in, or one of ours out to transformers
python run.py evaluate         how good, large and fast models are, beside Opus and MP3
python run.py bench            how fast a variant codes a stream on this machine
python run.py describe         the network of a config: shapes, parameters, rates, cost
python run.py info FILE        what an .ecdc file holds, and whether it is whole

Every command takes --config=configs/VARIANT.py, and any field of it as --config.FIELD=VALUE.
"""

from __future__ import annotations

import gc
import importlib
import os
import pathlib
import signal
import sys

if __name__ == "__main__" and sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
    # Large buffers in huge pages: else much of the time goes into page faults. glibc reads this
    # once, as a process starts.
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, sys.orig_argv)

from absl import app
from absl import flags
from absl import logging
from ml_collections import config_flags

_DEFAULT = f"--config={pathlib.Path(__file__).parent}/configs/encodec_24khz_small.py"
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The variant, configs/encodec_24khz_small.py by default.", lock_config=True
)


def main(argv: list[str]) -> int:
    """Runs a command; returns its exit status."""
    logging.set_verbosity(logging.WARNING)  # else JAX tells of the devices that are not there
    options = importlib.import_module("encodec_hk.commands.command_line")
    command, *arguments = argv[1:] or [""]
    try:
        names = options.check(command, arguments)
        importlib.import_module("encodec_hk.system.interruption").install()
        importlib.import_module("encodec_hk.blocks.compilation_cache").enable(command)
        module = importlib.import_module(f"encodec_hk.commands.{command}")
        gc.freeze()  # what is imported stays
        gc.enable()
        settings = {name: flags.FLAGS[name].value for name in names}
        # A checkpoint that is chosen without a config brings its own.
        chosen = settings.get("checkpoint") or settings.get("source")
        overrides = config_flags.get_override_values(flags.FLAGS["config"])
        is_own = chosen and sys.argv[1] == _DEFAULT and not overrides
        status = module.run(None if is_own else _CONFIG.value, *arguments, **settings)
        sys.stdout.flush()
        if status != 130:
            return status or 0
    except KeyboardInterrupt:
        _failed("interrupted", 130)
    except BrokenPipeError:  # who read our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        return _failed(str(error))
    os._exit(130)  # interrupted: threads of JAX may be at work, and would crash an orderly end


def _parse(argv: list[str]) -> list[str]:
    """Defines and parses flags; what is wrong with them, or in a config file, is one line too."""
    importlib.import_module("encodec_hk.commands.command_line")  # defines the flags
    try:
        arguments = flags.FLAGS(argv)
        _CONFIG.value.lock()  # a file that is not there shows here
    except Exception as error:
        kind = "" if isinstance(error, flags.Error) else f"--config: {type(error).__name__}: "
        sys.exit(_failed(kind + (str(error).strip().splitlines() or [""])[-1].strip()))
    return arguments


def _failed(line: str, status: int = 2) -> int:
    """Says what is wrong; returns the exit status, of bad input by default."""
    print(f"run.py: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    gc.disable()  # while modules are imported: to look for garbage among them takes half a second
    # Until the commands, which take seconds to import, have handlers of their own.
    signal.signal(signal.SIGINT, lambda *_: os._exit(_failed("interrupted", 130)))
    if not any(argument.lstrip("-").split("=")[0] == "config" for argument in sys.argv[1:]):
        sys.argv.insert(1, _DEFAULT)
    app.run(main, flags_parser=_parse)
