"""Pages of help: an overview of the commands, and one page for each command."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator, Sequence

from encodec_hk.commands import flag_types
from encodec_hk.commands import usage
from encodec_hk.system import extras
from encodec_hk.system import file_paths
from encodec_hk.system import invocation
from encodec_hk.system import rules
from encodec_hk.version import __version__

_WIDTH = 96  # columns
_COLUMN = 26  # where the texts of arguments and flags begin
_JOINT = "\N{NO-BREAK SPACE}"  # where a line must not break, until it is printed
_HELP = re.compile(r"-h|-\?|--?help(full|short|xml)?")
_CONFIG = (
    "--config=CONFIG",
    "The variant: the name of a shipped config, or a file of your own with a function get_config() "
    "(`from encodec_hk.configs import base` builds on a shipped one). Shipped are {names}. "
    "(default: encodec_24khz_small{where})",
)
_FIELD = (
    "--config.FIELD=VALUE",
    "Any field of the config, such as --config.model.num_filters=16 or "
    '--config.model.ratios="(8,5,4)". The fields are listed in {base}.',
)


def is_asked(argv: Sequence[str]) -> bool:
    """Return whether a command line asks for help or the version, or names no command."""
    options, words = _split(argv)
    return not words or words[0] == "help" or any(map(_is_help, options))


def show(argv: Sequence[str]) -> int:
    """Print what a command line asks for and return the exit status.

    Raises:
      ValueError: if it asks about a command that does not exist.
    """
    options, words = _split(argv)
    if "--version" in options:
        print(f"encodec-hk {__version__}")
        return 0
    is_lost = not words and not any(map(_is_help, options))
    names = [word for word in words if word != "help"]
    if names:
        name = next((name for name in names if name in usage.COMMANDS), names[0])
        check_command(name)
        print(page(name))
    else:
        print(overview(), file=sys.stderr if is_lost else sys.stdout)
    return 2 if is_lost else 0


def check_command(name: str) -> None:
    """Raise ValueError, with the nearest names, unless a command exists."""
    if name not in usage.COMMANDS:
        near = rules.nearest_hint(name, usage.COMMANDS)
        raise ValueError(f"command: got {name!r}, must be one of {', '.join(usage.COMMANDS)}{near}")


def overview() -> str:
    """Return the page about all commands."""
    command = invocation.command()
    lines = [
        f"usage: {command} COMMAND [ARGUMENTS] [FLAGS]",
        "",
        "EnCodec, the neural audio codec: sound to codes of a few kbps, and back.",
        "",
        "commands:",
        *(
            line
            for name, entry in usage.COMMANDS.items()
            for line in _row(name, entry.summary, column=18)
        ),
        "",
        f"{command} COMMAND --help shows the arguments, flags and examples of a command.",
        "",
        "flags of every command:",
        *_common(),
        "",
        "examples:",
        f"  {command} infer speech.wav speech_6kbps.wav",
        f"  {command} describe --config=encodec_48khz",
    ]
    return "\n".join(lines)


def page(name: str) -> str:
    """Return the page about a command."""
    command, entry = invocation.command(), usage.COMMANDS[name]
    arguments = "".join(f" {argument}" for argument, _ in entry.arguments)
    lines = [f"usage: {command} {name}{arguments} [FLAGS]", "", *_wrap(_filled(entry.text)), ""]
    if entry.arguments:
        lines += ["arguments:"]
        for argument, text in entry.arguments:
            lines += _row(argument.strip("[]"), text)
        lines += [""]
    lines += ["flags:"]
    for flag in entry.flags:
        lines += _row(_shape(flag), f"{_filled(flag.text)} ({_default(flag)})")
    lines += [*_common(), "", "examples:"]
    for example in entry.examples:
        lines += _example(f"{command} {example}")
    return "\n".join(lines).replace(_JOINT, " ")


def _is_help(option: str) -> bool:
    return bool(_HELP.fullmatch(option)) or option == "--version"


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the flags and the other words of a command line, without the value of --config."""
    options: list[str] = []
    words: list[str] = []
    arguments = iter(argv[1:])
    for argument in arguments:
        if argument == "--":
            words += arguments
        elif argument in ("--config", "-config"):
            next(arguments, None)
        elif argument.startswith("-") and argument != "-":
            options.append(argument)
        else:
            words.append(argument)
    return options, words


def _common() -> Iterator[str]:
    """Yield the lines about the flags that every command takes."""
    where = "" if file_paths.is_installed() else ", in the folder configs/"
    names = ", ".join(file_paths.shipped_configs())
    yield from _row(_CONFIG[0], _CONFIG[1].format(names=names, where=where))
    base = file_paths.shipped("configs") / "base.py"
    yield from _row(_FIELD[0], _FIELD[1].format(base=base))
    yield from _row("-h, --help", "Show the help of the program or of a command.")
    yield from _row("--version", "Show the version.")


def _filled(text: str) -> str:
    """Return a text with the commands that install extras."""
    commands = {name: extras.install_command(name) for name in extras.PURPOSES}
    return text.format(**{name: each.replace(" ", _JOINT) for name, each in commands.items()})


def _shape(flag: flag_types.Flag) -> str:
    """Return a flag as it is typed."""
    if flag.kind == "switch":
        return f"--{flag.name}"
    value = flag.value if isinstance(flag.kind, str) else "|".join(flag.kind)
    return f"--{flag.name}={value}"


def _default(flag: flag_types.Flag) -> str:
    """Return the default of a flag in words."""
    if flag.otherwise == "required":
        return "required"
    value = flag.default
    shown = "off" if flag.kind == "switch" else value
    shown = ",".join(value) if isinstance(value, list) else shown
    return f"default: {flag.otherwise or shown}"


def _example(line: str) -> list[str]:
    """Return the lines of an example, which a shell reads as one."""
    rows = [""]
    for part in re.split(r" (?=--)", line):
        if rows[-1] and len(rows[-1]) + len(part) > _WIDTH - 5:
            rows.append("")
        rows[-1] += f" {part}" if rows[-1] else part
    return ["  " + " \\\n      ".join(rows)]


def _row(term: str, text: str, column: int = _COLUMN) -> Iterator[str]:
    """Yield the lines of a term and its text, which begins at a column."""
    lines = textwrap.wrap(text, _WIDTH - column, break_long_words=False, break_on_hyphens=False)
    if len(term) > column - 4:
        yield f"  {term}"
    else:
        yield f"  {term:{column - 2}}{lines.pop(0)}"
    for line in lines:
        yield " " * column + line


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
