"""Ctrl-C and SIGTERM: a command stops soon and leaves nothing half-done.

An exception that a signal handler raises inside a callback of JAX is lost. So the handlers also
record the request, and `check` raises where a command can stop.
"""

from __future__ import annotations

import signal
import types

_requested = False


def install() -> None:
    """Make both signals raise KeyboardInterrupt, at once and again at the next `check`."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _request)


def postpone() -> None:
    """Make the first signal only record a request, for work that stops between two steps."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _note)


def is_requested() -> bool:
    """Return whether a signal has requested to stop."""
    return _requested


def check() -> None:
    """Raise KeyboardInterrupt if a signal has requested to stop."""
    if _requested:
        raise KeyboardInterrupt


def _note(signum: int, frame: types.FrameType | None) -> None:
    global _requested
    _requested = True
    install()  # a second signal stops at once


def _request(signum: int, frame: types.FrameType | None) -> None:
    global _requested
    _requested = True
    raise KeyboardInterrupt
