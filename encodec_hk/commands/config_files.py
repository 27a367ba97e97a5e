"""The config file that --config names, and what is wrong with it or with its overrides."""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections.config_flags import config_path

from encodec_hk.system import file_paths
from encodec_hk.system import rules

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)(?:=.*)?", re.DOTALL)
_REFUSED = re.compile(r"flag --config\.([^=]+)=(.*?): .*", re.DOTALL)
_FOLDERS = (".", "configs")  # before the name of a shipped config
_KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    ml_collections.ConfigDict: "a section; set its fields one by one",
}


def find(name: str) -> str:
    """Return the path of the config that --config names.

    A file that exists wins, with or without its suffix. Else it is a shipped config, given as
    encodec_tiny, encodec_tiny.py or configs/encodec_tiny.py. What follows a colon is for the file's
    `get_config`.

    Raises:
      ValueError: if there is no such config.
    """
    path, colon, argument = name.partition(":")
    for file in (path, f"{path}.py"):
        if path and pathlib.Path(file).is_file():
            return file + colon + argument
    given, shipped = pathlib.Path(path), file_paths.shipped_configs()
    is_bare = given.suffix in ("", ".py") and str(given.parent) in _FOLDERS
    if is_bare and given.stem in shipped:
        return str(shipped[given.stem]) + colon + argument
    hint = rules.nearest_hint(given.stem, shipped)
    raise ValueError(
        f"--config: No such file or directory: {path!r}; the shipped configs are "
        f"{', '.join(shipped)}{hint}"
    )


def resolve(argv: list[str]) -> bool:
    """Replace the name of the config by its path; return whether there is a --config.

    Raises:
      ValueError: if there is no such config.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    for index, word in enumerate(argv[:end]):
        flag, equals, name = word.partition("=")
        if flag not in ("-config", "--config"):
            continue
        if equals:
            argv[index] = f"{flag}={find(name)}"
        elif index + 1 < len(argv):
            argv[index + 1] = find(argv[index + 1])
        return True
    return False


def explain(error: Exception, argv: Sequence[str], flag: flags.Flag) -> str:
    """Return in one line what is wrong with a command line or its config file.

    Args:
      error: what the parsing of flags raised; a config file may raise anything.
      argv: the command line, after `resolve`.
      flag: the flag `config`.
    """
    text = str(error).strip()
    last = (text.splitlines() or [""])[-1].strip()
    if isinstance(error, flags.Error):
        # Several lines are the traceback of a config file.
        return f"--config: {last}" if "\n" in text else _refused(text, argv, flag)
    if isinstance(error, (AttributeError, LookupError)):
        config = _config(argv, flag)
        overrides = map(_OVERRIDE.fullmatch, argv if config is not None else ())
        unknown = (_unknown(override[1], config) for override in overrides if override)
        if line := next(filter(None, unknown), None):
            return line
    return f"--config: {type(error).__name__}: {last}"


def _config(argv: Sequence[str], flag: flags.Flag) -> Any:
    """Return the config of a command line without its overrides; None if its file fails."""
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        name, _, path = word.partition("=")
        if name in ("-config", "--config"):
            with contextlib.suppress(Exception):  # the file may raise anything
                return flag.parser.parse(path or following)
    return None


def _unknown(path: str, config: Any) -> str | None:
    """Return the error of an override of a field that a config does not have; else None."""
    section, owner = config, "config"
    for name in path.split("."):
        if not isinstance(section, ml_collections.ConfigDict):
            return f"--config.{path}: {owner} is a field, must be a section"
        if name not in section:
            near = [f"{owner}.{field}" for field in rules.nearest(name, section)]
            near = near or _nearest_anywhere(name, config)
            hint = f"; nearest: {', '.join(near)}" if near else f", has {', '.join(section)}"
            return f"--config.{path}: {owner} has no field {name}{hint}"
        section, owner = section[name], f"{owner}.{name}"
    return None


def _nearest_anywhere(name: str, config: ml_collections.ConfigDict) -> list[str]:
    """Return up to three fields of any section whose own names are near to a name."""
    fields: dict[str, list[str]] = {}
    for path in _fields(config, "config"):
        fields.setdefault(path.rpartition(".")[2], []).append(path)
    return [path for near in rules.nearest(name, fields) for path in fields[near]][:3]


def _fields(section: ml_collections.ConfigDict, owner: str) -> Iterator[str]:
    """Yield the names of all fields of a config, in any section: "config.model.channels"."""
    for name in section:
        if isinstance(section[name], ml_collections.ConfigDict):
            yield from _fields(section[name], f"{owner}.{name}")
        else:
            yield f"{owner}.{name}"


def _refused(text: str, argv: Sequence[str], flag: flags.Flag) -> str:
    """Return the error of a flag; that of an override says what its field must be."""
    found = _REFUSED.fullmatch(text)
    if not found:
        return text
    value = config_path.get_value(found[1], _config(argv, flag))
    allowed = _KINDS.get(type(value))
    return f"--config.{found[1]}: got {found[2]!r}, must be {allowed}" if allowed else text
