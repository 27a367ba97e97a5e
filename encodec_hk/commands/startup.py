"""Set-up and exit of the process that runs a command."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import signal
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

from encodec_hk.system import extras
from encodec_hk.system import interruption
from encodec_hk.system import invocation

# Optional packages that commands import at once, and the extras that install them.
_EXTRAS = {"tokenize": ("pyarrow", "tokens"), "detokenize": ("pyarrow", "tokens")}


def open_closed_streams() -> None:
    """Open the null device in place of stdin, stdout and stderr where they are closed (`>&-`).

    Else files that are opened later take their places, and receive what is printed.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def prepare() -> None:
    """Set up the process. Call this before importing anything large."""
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        # Without huge pages for large buffers, page faults take much of the time. glibc reads the
        # variable only when a process starts.
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, sys.orig_argv)
    # Looking for garbage during imports takes half a second and finds nothing to free.
    gc.disable()
    # Imports take seconds, and `interruption` is not installed before `load_command`.
    signal.signal(signal.SIGINT, lambda *_: os._exit(fail("interrupted", 130)))


def load_command(name: str) -> types.ModuleType:
    """Import the module of a command, and end the set-up."""
    interruption.install()
    warnings.formatwarning = _one_line
    # Imported here because it imports JAX, which a command line with an error need not wait for.
    from encodec_hk.blocks import compilation_cache

    compilation_cache.enable_compilation_cache()
    if name in _EXTRAS:
        extras.require(*_EXTRAS[name])
    module = importlib.import_module(f"encodec_hk.commands.{name}")
    gc.freeze()  # Later collections skip the modules: they are never freed.
    gc.enable()
    return module


def with_exit_status(main: Callable[[list[str]], int | None]) -> Callable[[list[str]], int]:
    """Wrap `main` so that it returns an exit status for every error that a user can cause."""

    @functools.wraps(main)
    def run(argv: list[str]) -> int:
        try:
            status = main(argv) or 0
            sys.stdout.flush()
        except KeyboardInterrupt:
            status = fail("interrupted", 130)
        except BrokenPipeError:  # The reader of stdout has closed it: discard what is buffered.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (ValueError, OSError) as error:
            return fail(str(error))
        except (RuntimeError, AssertionError):
            if not (message := _missing_platform()):
                raise
            return fail(message)
        if status == 130:  # JAX's threads may still be at work, and crash if they are destroyed.
            os._exit(status)
        return status

    return run


def _missing_platform() -> str:
    """Return the message for a JAX that finds none of its platforms; else an empty one."""
    try:
        if "jax" in sys.modules:
            sys.modules["jax"].devices()  # raises again
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        platforms = os.environ.get("JAX_PLATFORMS", "")
        return (
            f"JAX_PLATFORMS: got {platforms!r}, must name platforms that JAX finds here, such as "
            f"cpu{reason and f' ({reason})'}"
        )
    return ""


def fail(message: str, status: int = 2) -> int:
    """Print an error and return the exit status, which is that of bad input by default."""
    with contextlib.suppress(OSError):  # nobody may read stderr
        print(f"{invocation.name()}: {message}", file=sys.stderr)
    return status


def _one_line(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
    """Format a warning to a user without the place in the code, which others have."""
    if category is UserWarning:
        return f"{invocation.name()}: {message}\n"
    return _with_place(message, category, *place, **line)


_with_place = warnings.formatwarning
