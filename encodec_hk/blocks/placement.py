"""Devices that share the rows of a block, each with all parameters.

    rows     0  1  2  3 | 4  5  6  7 | ...      8 rows on 2 devices, a state's rows like a block's
    device   0          | 1

Rows do not depend on each other, so devices exchange nothing: each runs the program that it would
run alone on its part, and the result of a row depends on the size of that part only.

Shapes: B rows of a block, on all devices together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

AXIS = "rows"
_EVERYWHERE = jax.sharding.PartitionSpec()
_SPLIT = jax.sharding.PartitionSpec(AXIS)


class Placement:
    """The devices that compute blocks.

    Attributes:
      devices: of this process; the first takes the blocks whose rows cannot be shared evenly.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        """Begin.

        Args:
          devices: distinct devices of this process and of one platform; None for all of the default
            backend, or for the one that `jax.default_device` names.

        Raises:
          ValueError: the devices are not such.
        """
        if devices is not None:
            _check(devices)
        self.devices = tuple(_default() if devices is None else devices)
        self._mesh: jax.sharding.Mesh | None = None
        # None: for one default device, JAX decides as it would without this class.
        self._everywhere: jax.sharding.Sharding | None = None
        if len(self.devices) > 1:
            # Haiku's modules cannot be traced with Explicit axes, the default.
            self._mesh = jax.sharding.Mesh(
                np.array(self.devices), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,)
            )
            self._everywhere = jax.sharding.NamedSharding(self._mesh, _EVERYWHERE)
        elif devices is not None:
            self._everywhere = jax.sharding.SingleDeviceSharding(devices[0])

    def replicate(self, tree: Any) -> Any:
        """Put a tree of arrays on every device."""
        # jnp.asarray would compile a copy for each shape.
        return jax.device_put(jax.tree.map(_own, tree), self._everywhere)

    def compile(
        self,
        block: Callable[..., Any],
        params: Any,
        *,
        static_argnames: tuple[str, ...] = (),
        **bound: Any,
    ) -> Callable[..., Any]:
        """Compile a block function with its parameters bound.

        Args:
          block: (params, *args, **options) -> outputs. All arrays in args, outputs and unbound
            options have a leading axis of B rows.
          params: from `replicate`.
          static_argnames: options that are not arrays.
          **bound: further options that belong to the parameters, from `replicate`.

        Returns:
          (*args, **options) -> outputs. If B is a multiple of the number of devices, each takes as
          many rows and keeps its outputs; else the first device takes all.
        """
        jitted = jax.jit(block, static_argnames=static_argnames or None)
        if self._mesh is None:
            return functools.partial(jitted, params, **bound)
        alone = functools.partial(jitted, _first(params), **_first(bound))
        shared = _shared(block, self._mesh, static_argnames)
        split = jax.sharding.NamedSharding(self._mesh, _SPLIT)

        def is_split(leaf: Any) -> bool:
            return getattr(leaf, "sharding", None) == split  # numpy's and traced arrays have none

        def put(rows: Any) -> Any:
            # The state of the previous block is in place: device_put would take longer to see it.
            leaves, structure = jax.tree.flatten(rows)
            moved = iter(jax.device_put([leaf for leaf in leaves if not is_split(leaf)], split))
            there = [leaf if is_split(leaf) else next(moved) for leaf in leaves]
            return jax.tree.unflatten(structure, there)

        def run(*args: Any, **options: Any) -> Any:
            static = {name: options.pop(name) for name in static_argnames if name in options}
            given = {name: options.pop(name) for name in bound if name in options}
            rows = (args, options)
            if np.shape(jax.tree.leaves(rows)[0])[0] % len(self.devices):
                return alone(*args, **options, **given, **static)
            return shared((params, {**bound, **given}), put(rows), **static)

        return run


def _own(value: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
    """Return an array that nobody changes: a copy of numpy's, which device_put would share."""
    return value if isinstance(value, jax.Array) else np.array(value)


def _default() -> list[jax.Device]:
    """Return the default devices."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]  # JAX adds it at run time
    if device is None:
        return jax.local_devices()
    return [device] if isinstance(device, jax.Device) else jax.local_devices(backend=device)[:1]


def _check(devices: Any) -> None:
    """Raise ValueError unless these are distinct devices of this process and of one platform."""
    is_right = isinstance(devices, Sequence) and all(isinstance(d, jax.Device) for d in devices)
    if (
        not is_right
        or not 0 < len(set(devices)) == len(devices)
        or any(device.process_index != jax.process_index() for device in devices)
        or len({device.platform for device in devices}) > 1
    ):
        raise ValueError(
            f"devices: got {devices!r}, must be None or a list of distinct devices of this "
            "process (jax.local_devices) and of one platform"
        )


def _first(tree: Any) -> Any:
    """Return replicated arrays as the first device has them, without a copy."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


@functools.lru_cache(maxsize=128)
def _shared(
    block: Callable[..., Any], mesh: jax.sharding.Mesh, static_argnames: tuple[str, ...]
) -> Callable[..., Any]:
    """Return the block function over a mesh; equal arguments give the same one."""

    def shared(replicated: Any, rows: Any, **static: Any) -> Any:
        def part(replicated: Any, rows: Any) -> Any:
            (params, bound), (args, options) = replicated, rows
            return block(params, *args, **options, **bound, **static)

        return jax.shard_map(
            part, mesh=mesh, in_specs=(_EVERYWHERE, _SPLIT), out_specs=_SPLIT, check_vma=False
        )(replicated, rows)

    split = jax.sharding.NamedSharding(mesh, _SPLIT)
    return jax.jit(shared, static_argnames=static_argnames or None, out_shardings=split)
