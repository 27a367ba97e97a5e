"""Ctrl-C and SIGTERM, so that a command ends soon and leaves nothing half-done.

An exception raised by a signal's handler is lost where it falls into a callback of JAX, which it
often does. So the request is kept as well, and `check` raises again where a command can stop.
"""

from __future__ import annotations

import signal
import types

_requested = False


def install() -> None:
    """Makes both signals raise KeyboardInterrupt, now and at the next `check`."""
    signal.signal(signal.SIGINT, _request)
    signal.signal(signal.SIGTERM, _request)


def postpone() -> None:
    """Makes the first signal a request alone, for work that can stop between two steps of it."""
    signal.signal(signal.SIGINT, _note)
    signal.signal(signal.SIGTERM, _note)


def is_requested() -> bool:
    """Whether a signal has asked for the end."""
    return _requested


def check() -> None:
    """Raises KeyboardInterrupt where one was asked for."""
    if _requested:
        raise KeyboardInterrupt


def _note(signum: int, frame: types.FrameType | None) -> None:
    global _requested
    _requested = True
    install()  # who asks again does not want to wait


def _request(signum: int, frame: types.FrameType | None) -> None:
    global _requested
    _requested = True
    raise KeyboardInterrupt
