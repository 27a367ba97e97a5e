"""Rules that the fields of a configuration obey, and the errors that name what breaks them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Rule = tuple[str, Callable[[Any], bool]]
"""What a field's value must be, in words and as a predicate."""


def is_int(value: Any, minimum: int) -> bool:
    """Whether a value is a whole number, not below a minimum and within 32 bits."""
    # isinstance would let True pass. The bound keeps sizes within 32 bits.
    return type(value) is int and minimum <= value < 2**31


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return type(value) in (int, float) and abs(value) < 1e9  # NaN is not


def optional(rule: Rule) -> Rule:
    """None, or what another rule allows."""
    allowed, accepts = rule
    return f"None or {allowed}", lambda value: value is None or accepts(value)


def integer(minimum: int) -> Rule:
    """A whole number, not below a minimum."""
    return f"a whole number of at least {minimum}", lambda value: is_int(value, minimum)


def one_of(*names: str) -> Rule:
    """One of some names."""
    # A tuple, and not a set: the value may be of an unhashable type.
    return f"one of {', '.join(names)}", lambda value: value in names


def tuple_of(words: str, accepts: Callable[[Any], bool]) -> Rule:
    """A tuple, not empty, of what is accepted."""
    return (
        f"a tuple of one or more {words}",
        lambda value: isinstance(value, tuple) and bool(value) and all(map(accepts, value)),
    )


BOOL: Rule = ("True or False", lambda value: type(value) is bool)
NAME: Rule = ("a string that is not empty", lambda value: isinstance(value, str) and value != "")
POSITIVE: Rule = ("a number above 0", lambda value: is_number(value) and value > 0)
NOT_NEGATIVE: Rule = (
    "a number of at least 0",
    lambda value: is_number(value) and value >= 0,
)
SHARE: Rule = ("a number in [0, 1]", lambda value: is_number(value) and 0 <= value <= 1)
DECAY: Rule = ("a number in [0, 1)", lambda value: is_number(value) and 0 <= value < 1)
ODD: Rule = ("an odd whole number above 0", lambda value: is_int(value, 1) and value % 2 == 1)
POWER_OF_TWO: Rule = (
    "a power of two of at least 2",
    lambda value: is_int(value, 2) and value & (value - 1) == 0,
)


def error(field: str, value: Any, allowed: str) -> ValueError:
    """The error of a field: the value it has, and what is allowed."""
    shown = " ".join(repr(value).split())  # of a ConfigDict, one line too
    return ValueError(f"{field}: got {shown}, must be {allowed}")


def check_names(
    path: str, names: Iterable[str], rules: Mapping[str, Rule], others_allowed: bool = False
) -> None:
    """Raises ValueError where a section's names are not those of its rules."""
    names = set(names)
    missing = sorted(rules.keys() - names)
    unknown = [] if others_allowed else sorted(names - rules.keys())
    problems = [f"missing {', '.join(missing)}"] if missing else []
    problems += [f"unknown {', '.join(unknown)}"] if unknown else []
    if problems:
        raise ValueError(f"{path}: {'; '.join(problems)}; must have {', '.join(rules)}")


def check_values(path: str, section: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Raises ValueError where a value of a section breaks its rule."""
    for name, (allowed, accepts) in rules.items():
        if not accepts(section[name]):
            raise error(f"{path}.{name}", section[name], allowed)
