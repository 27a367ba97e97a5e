"""Traces kept on disk, so that the next process need not trace.

Tracing and lowering a network takes longer than loading the compiled program. Kept are lowered
programs as StableHLO (`jax.export`), and the shapes that `jax.eval_shape` finds as JSON. A program
computes the same bits whether it was kept or not.

The name of a file is the SHA-256 of all that decides its content: what the caller says, the shapes
and types of the arguments, the source code of the networks, the versions of JAX and Haiku, their
settings and the devices. So no file is ever out of date; a damaged one is made anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import ml_collections

from encodec_hk import config
from encodec_hk.networks import model
from encodec_hk.system import part_file

_PACKAGE = pathlib.Path(__file__).parents[1]
# All that a trace can run through: this file, the networks, and what these may import.
_SOURCES = (
    *("blocks/traces.py", "networks/**/*.py", "config.py", "system/**/*.py"),
    "language/*.py",
)
_PACKAGES = ("dm-haiku", "jax", "jaxlib")
_DIGEST = 32  # bytes at the start of a file: the SHA-256 of the rest


def builder(folder: str | os.PathLike[str]) -> Callable[..., model.Model]:
    """Return `model.build` with its block functions and shapes kept in a folder.

    They serve one device; with several, nothing is kept. Gradients do not go through kept
    functions.

    Args:
      folder: made if it is missing.
    """

    def build(model_config: ml_collections.ConfigDict, precision: str = "float32") -> model.Model:
        return _kept(os.fspath(folder), config.to_json(model_config), precision)

    return build


@functools.lru_cache(maxsize=64)
def _kept(folder: str, config_json: str, precision: str) -> model.Model:
    """Return the model; equal arguments give the same one, as of `model.build`."""
    built = model.build(config.from_json(config_json), precision)
    if jax.device_count() > 1:
        return built
    store = TraceStore(pathlib.Path(folder), config_json, precision)

    def state(name: str, begin: Callable[[int], model.State]) -> Callable[[int], model.State]:
        shapes = functools.cache(lambda: store.shapes(name, lambda: begin(1)))
        return lambda batch: model.fresh(shapes(), batch)

    return built._replace(
        param_shapes=functools.cache(lambda: store.shapes("param_shapes", built.param_shapes)),
        encode_block=store.program("encode_block", built.encode_block),
        decode_block=store.program("decode_block", built.decode_block),
        encoder_state=state("encoder_state", built.encoder_state),
        decoder_state=state("decoder_state", built.decoder_state),
    )


class TraceStore:
    """A folder of kept traces, which processes may share.

    A problem with the folder or a file is never an error: the network is traced as without it.
    """

    def __init__(self, folder: pathlib.Path, *facts: str):
        """Begin; `facts` decide every trace of this store. The folder is made if missing."""
        self._folder = folder
        self._facts = facts

    def shapes(self, name: str, make: Callable[[], Any]) -> Any:
        """Return a tree of `jax.ShapeDtypeStruct`s, or None.

        Args:
          name: of the tree.
          make: () -> dicts and tuples of arrays or their shapes, or None; called if not kept.
        """
        content = self._content([name], lambda: json.dumps(_described(make())).encode())
        return _shapes(json.loads(content))

    def program(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a short trace within `jax.jit`, without gradients.

        Args:
          name: of the function.
          function: of trees of arrays; keyword arguments that are integers are static.
        """

        @functools.wraps(function)
        def kept(*args: Any, **kwargs: Any) -> Any:
            static = {key: value for key, value in kwargs.items() if isinstance(value, int)}
            arrays = {key: value for key, value in kwargs.items() if key not in static}
            shapes = jax.tree.map(jax.typeof, (args, arrays))

            def make() -> bytes:
                traced = jax.jit(functools.partial(function, **static))
                return bytes(jax.export.export(traced)(*shapes[0], **shapes[1]).serialize())

            try:
                # Flat, as what orders the keys of dicts.
                facts = [repr(sorted(static.items())), repr(jax.tree.flatten(shapes))]
                content = self._content([name, *facts], make)
                program = jax.export.deserialize(bytearray(content))
            except Exception:  # not exportable: trace it, or let it raise what is wrong again
                return function(*args, **kwargs)
            return program.call(*args, **arrays)

        return kept

    def _content(self, facts: list[str], make: Callable[[], bytes]) -> bytes:
        """Return what is kept for such facts; make and keep it if it is missing or damaged."""
        try:
            text = json.dumps([*_surroundings(), *self._facts, *facts])
        except (OSError, importlib.metadata.PackageNotFoundError):  # the key cannot be known
            return make()
        path = self._folder / f"{facts[0]}-{hashlib.sha256(text.encode()).hexdigest()}"
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
                return data[_DIGEST:]
            path.unlink()
        content = make()
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with part_file.PartFile(path) as part:
                part.file.write(hashlib.sha256(content).digest() + content)
        return content


@functools.cache
def _surroundings() -> tuple[str, ...]:
    """Return what decides a trace besides its function and arguments."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in _PACKAGE.glob(pattern)):
        digest.update(f"{path.relative_to(_PACKAGE)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    settings = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(("JAX_", "XLA_"))]
    devices = [jax.default_backend(), str(jax.device_count())]
    return (digest.hexdigest(), *versions, *settings, *devices)


def _described(tree: Any) -> Any:
    """Return a tree of arrays as JSON: dicts, lists for tuples, `dtype[shape]` for arrays."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: _described(value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return [_described(value) for value in tree]
    return f"{tree.dtype.name}{list(tree.shape)}"


def _shapes(described: Any) -> Any:
    """Undo `_described`."""
    if described is None:
        return None
    if isinstance(described, dict):
        return {key: _shapes(value) for key, value in described.items()}
    if isinstance(described, list):
        return tuple(_shapes(value) for value in described)
    dtype, _, shape = described.partition("[")
    return jax.ShapeDtypeStruct(tuple(json.loads(f"[{shape}")), dtype)
