"""Rules for the fields of a configuration, and their errors."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Rule = tuple[str, Callable[[Any], bool]]
"""What the value of a field must be, in words and as a predicate."""


def is_int(value: Any, minimum: int) -> bool:
    """Return whether a value is a whole number of at least `minimum` and below 2**31."""
    # isinstance would accept True.
    return type(value) is int and minimum <= value < 2**31


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return type(value) in (int, float) and abs(value) < 1e9  # False for NaN


def optional(rule: Rule) -> Rule:
    """Allow None besides what another rule allows."""
    allowed, accepts = rule
    return f"None or {allowed}", lambda value: value is None or accepts(value)


def integer(minimum: int) -> Rule:
    """Allow whole numbers of at least `minimum`."""
    return f"a whole number of at least {minimum}", lambda value: is_int(value, minimum)


def one_of(*names: str) -> Rule:
    """Allow some names."""
    # The names are a tuple, not a set: the value may be unhashable.
    return f"one of {', '.join(names)}", lambda value: value in names


def tuple_of(words: str, accepts: Callable[[Any], bool]) -> Rule:
    """Allow tuples of one or more accepted values."""
    return (
        f"a tuple of one or more {words}",
        lambda value: isinstance(value, tuple) and bool(value) and all(map(accepts, value)),
    )


BOOL: Rule = ("True or False", lambda value: type(value) is bool)
NAME: Rule = ("a string that is not empty", lambda value: isinstance(value, str) and value != "")
POSITIVE: Rule = ("a number above 0", lambda value: is_number(value) and value > 0)
NOT_NEGATIVE: Rule = ("a number of at least 0", lambda value: is_number(value) and value >= 0)
SHARE: Rule = ("a number in [0, 1]", lambda value: is_number(value) and 0 <= value <= 1)
DECAY: Rule = ("a number in [0, 1)", lambda value: is_number(value) and 0 <= value < 1)
ODD: Rule = ("an odd whole number above 0", lambda value: is_int(value, 1) and value % 2 == 1)
POWER_OF_TWO: Rule = (
    "a power of two of at least 2",
    lambda value: is_int(value, 2) and value & (value - 1) == 0,
)


def error(field: str, value: Any, allowed: str) -> ValueError:
    """Return the error of a field: "FIELD: got VALUE, must be ALLOWED"."""
    shown = " ".join(repr(value).split())  # in one line, also for a ConfigDict
    return ValueError(f"{field}: got {shown}, must be {allowed}")


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three names that someone who wrote `name` may have meant, the nearest first.

    A name counts as near if it is spelled alike, or if it has all of `name` or is in it.
    """
    names = list(names)
    near = difflib.get_close_matches(name, names)
    parts = [other for other in names if name in other.split("_") or name in other]
    return list(dict.fromkeys([*near, *parts]))[:3]


def nearest_hint(name: str, names: Iterable[str]) -> str:
    """Return "; nearest is NAME" for an error message, or nothing if no name is near."""
    near = nearest(name, names)
    return f"; nearest {'is' if len(near) == 1 else 'are'} {', '.join(near)}" if near else ""


def check(
    path: str, section: Mapping[str, Any], rules: Mapping[str, Rule], others_allowed: bool = False
) -> None:
    """Raise ValueError unless a section has the fields of its rules, with values they accept."""
    names = set(section.keys())
    missing = sorted(rules.keys() - names)
    unknown = [] if others_allowed else sorted(names - rules.keys())
    problems = [f"missing {', '.join(missing)}"] if missing else []
    problems += [f"unknown {name}{nearest_hint(name, rules)}" for name in unknown]
    if problems:
        raise ValueError(f"{path}: {'; '.join(problems)}; must have {', '.join(rules)}")
    for name, (allowed, accepts) in rules.items():
        if not accepts(section[name]):
            raise error(f"{path}.{name}", section[name], allowed)
