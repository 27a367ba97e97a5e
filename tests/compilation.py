"""How tests compile: quickly, or as users do; and once for all processes.

Quick is to compile in less than half the time, to slower code; that of small networks is as fast.
"""

import contextlib
import functools
import os
import pathlib
import subprocess
import sys
from unittest import mock

import jax

_OPTION = "xla_cpu_use_fusion_emitters"


def begin(folder):
    """Compiles quickly from now on, as do processes that are started; a folder keeps what is made.

    To be called before anything is computed: only then XLA_FLAGS are read.
    """
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_disable_most_optimizations": True,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    os.environ["XLA_FLAGS"] = _with_flag(f"--{_OPTION}=false")


@contextlib.contextmanager
def normal():
    """Compiles as users do: what is jitted within, or what processes compile that are started."""
    environment = {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
        "XLA_FLAGS": _with_flag(f"--{_OPTION}=true"),
    }
    jit = functools.partial(jax.jit, compiler_options={_OPTION: True})
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        with mock.patch.dict(os.environ, environment), mock.patch.object(jax, "jit", jit):
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@contextlib.contextmanager
def counted():
    """A list that gets an entry for every program that is compiled within."""
    compiled = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def devices(count):
    """The environment of a process that has so many devices."""
    flags = _with_flag(f"--xla_force_host_platform_device_count={count}")
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


def output_on_devices(count, code):
    """What a process prints that runs some code where there are so many devices."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=pathlib.Path(__file__).parents[1],
        env=devices(count),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _with_flag(flag):
    """XLA_FLAGS and one more, which counts where it is there already."""
    return f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
