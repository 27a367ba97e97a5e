"""What tracing gives, kept on disk: a process that finds it there need not trace.

To trace a network and to lower it takes longer than to load what it was compiled to. Kept are
lowered programs, as StableHLO (`jax.export`), and the shapes that `jax.eval_shape` finds, as JSON.
The same program comes of both ways, and computes the same bits.

A file's name is the SHA-256 of all that decides its content: what the caller says, the arguments'
shapes and types, the source code of the networks, the versions of JAX and Haiku, their settings and
the devices. So none is ever out of date, and one that is damaged is made anew.
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
# Whatever a trace runs through; other files of the package cannot change one.
_SOURCES = ("config.py", "system/rules.py", "networks/*.py", "blocks/traces.py")
_PACKAGES = ("dm-haiku", "jax", "jaxlib")
_DIGEST = 32  # bytes that a file begins with: the SHA-256 of those that follow


def builder(folder: str | os.PathLike[str]) -> Callable[..., model.Model]:
    """Return `model.build`, its block functions and shapes kept in a folder.

    For encoding and decoding on one device; with several devices nothing is kept. No gradient goes
    through kept functions.

    Args:
      folder: made where it is missing.
    """

    def build(model_config: ml_collections.ConfigDict, precision: str = "float32") -> model.Model:
        return _kept(os.fspath(folder), config.to_json(model_config), precision)

    return build


@functools.lru_cache(maxsize=64)
def _kept(folder: str, config_json: str, precision: str) -> model.Model:
    """As `model.build`; one for equal arguments, so that what is compiled for one serves all."""
    built = model.build(config.from_json(config_json), precision)
    if jax.device_count() > 1:
        return built
    store = TraceStore(pathlib.Path(folder), config_json, precision)

    def state(name: str, begin: Callable[[int], model.State]) -> Callable[[int], model.State]:
        shapes = functools.cache(lambda: store.shapes(name, lambda: begin(1)))
        # On the device, as the outputs of a kept program are: else the second block compiles again.
        return lambda batch: jax.device_put(model.fresh(shapes(), batch), jax.devices()[0])

    return built._replace(
        param_shapes=functools.cache(lambda: store.shapes("param_shapes", built.param_shapes)),
        encode_block=store.program("encode_block", built.encode_block),
        decode_block=store.program("decode_block", built.decode_block),
        encoder_state=state("encoder_state", built.encoder_state),
        decoder_state=state("decoder_state", built.decoder_state),
    )


class TraceStore:
    """A folder of kept traces.

    Nothing that is wrong with the folder or a file in it is an error: then it is traced as ever.
    Processes may share it.
    """

    def __init__(self, folder: pathlib.Path, *facts: str):
        """Takes a folder, which is made where it is missing, and what decides all traces here."""
        self._folder = folder
        self._facts = facts

    def shapes(self, name: str, make: Callable[[], Any]) -> Any:
        """A tree of `jax.ShapeDtypeStruct`s, or None.

        Args:
          name: of the tree.
          make: () -> dicts and tuples of arrays or their shapes, or None; called where they are not
            kept.
        """
        content = self._content([name], lambda: json.dumps(_described(make())).encode())
        return _shapes(json.loads(content))

    def program(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose trace within `jax.jit` is short where it is kept.

        It cannot be differentiated.

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
            except Exception:  # what cannot be exported can be traced, or says again what is wrong
                return function(*args, **kwargs)
            return program.call(*args, **arrays)

        return kept

    def _content(self, facts: list[str], make: Callable[[], bytes]) -> bytes:
        """What is kept of such facts; where it is not there or not whole, it is made, and kept."""
        try:
            text = json.dumps([*_surroundings(), *self._facts, *facts])
        except (OSError, importlib.metadata.PackageNotFoundError):  # no telling what decides it
            return make()
        path = self._folder / f"{facts[0]}-{hashlib.sha256(text.encode()).hexdigest()}"
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
                return data[_DIGEST:]
        content = make()
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            part = part_file.PartFile(path)
            try:
                part.file.write(hashlib.sha256(content).digest() + content)
            except BaseException:  # an interruption too
                part.abort()
                raise
            part.commit()
        return content


@functools.cache
def _surroundings() -> tuple[str, ...]:
    """What decides a trace besides its function and arguments."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in _PACKAGE.glob(pattern)):
        digest.update(f"{path.relative_to(_PACKAGE)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    settings = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(("JAX_", "XLA_"))]
    devices = [jax.default_backend(), str(jax.device_count())]
    return (digest.hexdigest(), *versions, *settings, *devices)


def _described(tree: Any) -> Any:
    """A tree of arrays in terms of JSON: dicts, lists for tuples, and `dtype[shape]` for arrays."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: _described(value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return [_described(value) for value in tree]
    return f"{tree.dtype.name}{list(tree.shape)}"


def _shapes(described: Any) -> Any:
    """Undoes `_described`."""
    if described is None:
        return None
    if isinstance(described, dict):
        return {key: _shapes(value) for key, value in described.items()}
    if isinstance(described, list):
        return tuple(_shapes(value) for value in described)
    dtype, _, shape = described.partition("[")
    return jax.ShapeDtypeStruct(tuple(json.loads(f"[{shape}")), dtype)
