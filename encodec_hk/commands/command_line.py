"""The command line: flags, the config with its overrides, and the command that runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from absl import logging
from ml_collections import config_flags

from encodec_hk.commands import config_files
from encodec_hk.commands import flag_types
from encodec_hk.commands import help_pages
from encodec_hk.commands import startup
from encodec_hk.commands import usage
from encodec_hk.system import file_paths
from encodec_hk.system import rules

# With one dash, which a user may write but help does not show: the default is told from a --config
# that names the same file.
_DEFAULT = f"-config={file_paths.shipped('configs') / 'encodec_24khz_small.py'}"


def define(values: flags.FlagValues, argv: list[str] | None = None) -> flags.FlagValues:
    """Define the flags of all commands; `argv` is where overrides are looked for.

    None stands for `sys.argv`.
    """
    config_flags.DEFINE_config_file(
        "config", None, "The variant.", flag_values=values, lock_config=True, sys_argv=argv
    )
    defined: dict[str, flag_types.Flag] = {}
    for command in usage.COMMANDS.values():
        for flag in command.flags:
            known = defined.setdefault(flag.name, flag)
            if isinstance(known.kind, tuple) and isinstance(flag.kind, tuple):
                kind = tuple(dict.fromkeys((*known.kind, *flag.kind)))
                defined[flag.name] = known._replace(kind=kind)
    for flag in defined.values():
        _define(flag, values)
    return values


def _define(flag: flag_types.Flag, values: flags.FlagValues) -> None:
    if isinstance(flag.kind, tuple):
        flags.DEFINE_enum(flag.name, flag.default, flag.kind, flag.text, flag_values=values)
    elif flag.kind == "switch":
        flags.DEFINE_bool(flag.name, False, flag.text, flag_values=values)
    else:
        definers: dict[str, Any] = {
            "string": flags.DEFINE_string,
            "number": flags.DEFINE_float,
            "integer": flags.DEFINE_integer,
            "list": flags.DEFINE_list,
            "repeated": flags.DEFINE_multi_string,
        }
        definers[flag.kind](flag.name, flag.default, flag.text, flag_values=values)


define(flags.FLAGS)


def run(argv: Sequence[str]) -> int | None:
    """Run a command of the program and return its exit status.

    Args:
      argv: the command line without its flags, which are parsed.
    """
    logging.set_verbosity(logging.WARNING)  # JAX logs the devices that it does not find.
    name, *arguments = argv[1:] or [""]
    chosen = settings(name, arguments)
    command = startup.load_command(name)
    return command.run(variant(chosen), *arguments, **chosen)


def parse(argv: list[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Parse the flags; exit with one line on stderr if one of them or the config file is wrong.

    Args:
      argv: the command line, in which the name of a config becomes the path of its file; the
        shipped model's is inserted if there is no --config.
      values: the flags to set.

    Returns:
      The command line without its flags.
    """
    try:
        if not config_files.resolve(argv):
            argv.insert(1, _DEFAULT)
    except ValueError as error:
        sys.exit(startup.fail(str(error)))
    try:
        arguments = values(argv)
        config: Any = values["config"].value
        config.lock()
    except Exception as error:  # a config file may raise anything
        sys.exit(startup.fail(config_files.explain(error, argv, values["config"])))
    return arguments


def settings(
    command: str, arguments: Sequence[str], values: flags.FlagValues = flags.FLAGS
) -> dict[str, Any]:
    """Return the values of a command's flags.

    Raises:
      ValueError: if there is no such command, or it does not take these arguments, a flag that is
        present or its value.
    """
    help_pages.check_command(command)
    entry = usage.COMMANDS[command]
    takes = [name for name, _ in entry.arguments]
    required = [name for name in takes if not name.startswith("[")]
    if not len(required) <= len(arguments) <= len(takes):
        hint = " ".join(takes) + (" (a pattern in quotes)" if len(takes) > 1 else "")
        raise ValueError(f"{command}: got {len(arguments)} arguments, takes {hint or 'none'}")
    names = [flag.name for flag in entry.flags]
    for other, another in usage.COMMANDS.items():
        for flag in another.flags:
            if values[flag.name].present and flag.name not in names:
                raise ValueError(f"{command}: --{flag.name} is a flag of another command, {other}")
    for flag in entry.flags:
        value = values[flag.name].value
        if isinstance(flag.kind, tuple) and value is not None and value not in flag.kind:
            raise rules.error(f"{command}: --{flag.name}", value, f"one of {', '.join(flag.kind)}")
    return {name: values[name].value for name in names}


def variant(settings: Mapping[str, Any]) -> ml_collections.ConfigDict | None:
    """Return the configuration, or None to use the one that is stored with the chosen weights."""
    chosen = settings.get("checkpoint") or settings.get("source")
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    is_default = sys.argv[1] == _DEFAULT and not overrides
    return None if chosen and is_default else flags.FLAGS["config"].value
