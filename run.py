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

from encodec_hk.commands import startup

if __name__ == "__main__":
    startup.prepare()

from absl import app
from absl import flags
from absl import logging

from encodec_hk.commands import command_line

flags.adopt_module_key_flags(command_line)  # for --help


def main(argv: list[str]) -> int | None:
    """Run a command and return its exit status."""
    logging.set_verbosity(logging.WARNING)  # JAX logs the devices that it does not find.
    name, *arguments = argv[1:] or [""]
    settings = command_line.settings(name, arguments)
    command = startup.load_command(name)
    return command.run(command_line.variant(settings), *arguments, **settings)


if __name__ == "__main__":
    app.run(startup.with_exit_status(main), flags_parser=command_line.parse)
