"""A codec as StableHLO: its two block computations, which JAX runs without this package.

    weights.safetensors   every parameter, named as in a checkpoint, and `quantizer.energies`
    encoder.stablehlo     (weights, state, audio, num_valid, is_last) -> (state, codes)
    decoder.stablehlo     (weights, state, codes, num_valid, is_last) -> (state, audio)
    export.json           facts of the model, names and shapes

The arguments are those of `model.encode_block` and `model.decode_block`, with weights and states as
flat dicts {name: array}. A variant that takes whole rows has an empty state. The weights lie beside
the programs: both read the codebooks, and constants would take a compiler long to fold.

Shapes: B rows of a block, T samples, C channels, F frames, K codebooks.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

import encodec_hk
from encodec_hk.export import model_facts
from encodec_hk.networks import model
from encodec_hk.networks import quantizer

MANIFEST = "export.json"
PLATFORMS = ("cpu", "cuda", "tpu")

_WEIGHTS = "weights.safetensors"
_ENERGIES = "quantizer.energies"
_B, _F, _K = jax.export.symbolic_shape("batch, frames, codebooks")

Arrays = dict[str, Any]


def write(
    codec: encodec_hk.Codec,
    folder: pathlib.Path,
    facts: dict[str, Any],
    num_codebooks: int | None = None,
) -> None:
    """Fill a folder with a codec.

    Args:
      codec: the codec; one that decodes only has no encoder.stablehlo.
      folder: an empty folder.
      facts: of `model_facts.facts`.
      num_codebooks: K of the codes that the encoder gives; None for all codebooks.
    """
    weights = _weights(codec)
    (folder / _WEIGHTS).write_bytes(safetensors.numpy.save(weights))
    networks = model.build(codec.model_config, platform=PLATFORMS[0])
    rows = _shape(_B, dtype=jnp.int32), _shape(_B, dtype=jnp.bool_)
    entries = {}
    if codec.has_encoder:
        count = num_codebooks or codec.num_codebooks

        def encode(params: Arrays, state: Any, audio: Any, *ends: Any) -> Any:
            energies = params["quantizer"].pop("energies")
            return networks.encode_block(
                params, state, audio, *ends, num_codebooks=count, energies=energies
            )

        audio = _shape(_B, codec.hop_length * _F, codec.channels)
        program, states = _program(encode, weights, networks.encoder_state(1), audio, rows)
        (folder / "encoder.stablehlo").write_bytes(program)
        entries["encoder"] = {
            "num_codebooks": count,
            **model_facts.stream(codec, "encoder"),
            "states": states,
        }

    def decode(params: Arrays, state: Any, codes: Any, *ends: Any) -> Any:
        del params["quantizer"]["energies"]
        return networks.decode_block(params, state, codes, *ends)

    codes = _shape(_B, _K, _F, dtype=jnp.int32)
    program, states = _program(decode, weights, networks.decoder_state(1), codes, rows)
    (folder / "decoder.stablehlo").write_bytes(program)
    entries["decoder"] = {**model_facts.stream(codec, "decoder"), "states": states}
    if codec.framing.has_segments:  # a block holds whole ones
        entries = {network: {**entry, "lag": 0} for network, entry in entries.items()}
    manifest = {**facts, **entries, "platforms": PLATFORMS, "jax": jax.__version__}
    model_facts.write(folder / MANIFEST, manifest)


def _weights(codec: encodec_hk.Codec) -> dict[str, np.ndarray]:
    """Return the parameters by name, and the energies of the codebooks."""
    weights = {
        f"{module}.{name}": np.asarray(value)
        for module, values in codec.params.items()
        for name, value in values.items()
    }
    return weights | {_ENERGIES: quantizer.energies(weights["quantizer.codebooks"])}


def _program(
    block: Callable[..., Any],
    weights: Mapping[str, np.ndarray],
    fresh: model.State,
    x: jax.ShapeDtypeStruct,
    rows: tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct],
) -> tuple[bytes, list[dict[str, Any]]]:
    """Export a block computation for all platforms.

    Args:
      block: (params, state, x, num_valid, is_last) -> (state, outputs).
      weights: its parameters, by name.
      fresh: the state of one row that has not begun, or None.
      x: a block of B rows.
      rows: num_valid and is_last of it.

    Returns:
      The program, serialized, and what export.json says about the states.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(fresh)
    # Layers of kernel 1 carry arrays without elements, which callers need not see.
    carried = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in paths
        if leaf.size
    }

    def run(weights: Arrays, state: Arrays, x: Any, num_valid: Any, is_last: Any) -> Any:
        params: dict[str, Arrays] = {}
        for key, value in weights.items():
            module, _, name = key.rpartition(".")
            params.setdefault(module, {})[name] = value
        given = iter([state[name] for name in carried])
        leaves = [
            next(given) if leaf.size else jnp.zeros((x.shape[0], *leaf.shape[1:]), leaf.dtype)
            for _, leaf in paths
        ]
        after, y = block(params, jax.tree.unflatten(structure, leaves), x, num_valid, is_last)
        kept = [leaf for leaf in jax.tree.leaves(after) if 0 not in leaf.shape]
        return dict(zip(carried, kept, strict=True)), y

    exported = jax.export.export(jax.jit(run), platforms=PLATFORMS)(
        {name: _shape(*value.shape) for name, value in weights.items()},
        {name: _shape(_B, *leaf.shape[1:], dtype=leaf.dtype) for name, leaf in carried.items()},
        x,
        *rows,
    )
    described = [
        {
            "name": name,
            "shape": ["batch", *leaf.shape[1:]],
            "dtype": leaf.dtype.name,
            "initial": leaf.flat[0].item(),
        }
        for name, leaf in carried.items()
    ]
    return bytes(exported.serialize()), described


def _shape(*shape: Any, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)
