"""How tests compile: quickly, or as users do; and once for all processes."""

import contextlib
import functools
import os
from unittest import mock

import jax

_JIT = jax.jit


@contextlib.contextmanager
def quick():
    """Compiles in less than half the time, to slower code: what is jitted or started within.

    Of a small network the code is as fast as any.
    """
    jax.devices()  # reads XLA_FLAGS, once and for all: what they are below is for other processes
    jit = functools.partial(_JIT, compiler_options={"xla_cpu_use_fusion_emitters": False})
    with mock.patch.dict(os.environ, quick_environment()), _compiling(jit, is_quick=True):
        yield


@contextlib.contextmanager
def normal():
    """Compiles as users do, within `quick`: what must hold for the code that they run."""
    with _compiling(_JIT, is_quick=False):
        yield


@contextlib.contextmanager
def _compiling(jit, is_quick):
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", is_quick)
    try:
        with mock.patch.object(jax, "jit", jit):
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def quick_environment():
    """What a process has in its environment to compile quickly."""
    flag = "--xla_cpu_use_fusion_emitters=false"
    return {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": _with_flag(flag)}


def devices(count):
    """The environment of a process that has so many devices."""
    flags = _with_flag(f"--xla_force_host_platform_device_count={count}")
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


def _with_flag(flag):
    return f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


def share(folder):
    """Keeps what is compiled in a folder, where other processes read it: those started from now."""
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
