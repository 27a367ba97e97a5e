"""Checks of what users hand to the compiled block computation.

Shapes and types are always checked. Values are checked in numpy arrays alone: those of JAX's arrays
may not be computed yet, and a loop over blocks would wait for each of them.

All raise ValueError with what was got and what is allowed.

Shapes: B rows, T samples, C channels, F frames, K codebooks.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from encodec_hk import config
from encodec_hk.blocks import checks

Array = np.ndarray | jax.Array


def audio(audio: Any, model_config: ml_collections.ConfigDict) -> Array:
    """Return a block of audio as float32 [B, T, C], T whole frames."""
    audio, hop = _array(audio), config.hop_length(model_config)
    shape = audio.shape
    is_right = len(shape) == 3 and audio.size and shape[2] == model_config.channels
    if not is_right or shape[1] % hop:
        raise ValueError(
            f"audio: got shape {shape}, must be [B, T, {model_config.channels}], T a multiple of "
            f"{hop}"
        )
    if not jnp.issubdtype(audio.dtype, jnp.floating):
        raise ValueError(f"audio: got {audio.dtype}, must be float in [-1, 1]")
    if isinstance(audio, np.ndarray):
        with np.errstate(over="ignore"):  # reported below
            audio = audio.astype(np.float32, copy=False)
        finite = np.isfinite(audio).all(axis=2)
        if not finite.all():
            row, sample = np.argwhere(~finite)[0]
            raise ValueError(
                f"audio[{row}]: got NaN or infinity at sample {sample}, must be finite"
            )
    return audio.astype(jnp.float32, copy=False)


def codes(codes: Any, model_config: ml_collections.ConfigDict) -> Array:
    """Return a block of codes as int32 [B, K, F], K from 1 to all codebooks."""
    codes = _array(codes)
    checks.code_block(codes, model_config)
    if isinstance(codes, np.ndarray):
        checks.code_range(codes, "codes", model_config)
    return codes.astype(jnp.int32, copy=False)


def rows(
    state: Any,
    num_valid: Any,
    is_last: Any,
    *,
    batch: int,
    size: int,
    fresh: Any,
    unit: int,
    first: int,
) -> tuple[Array | None, Array | None]:
    """Return num_valid, int32 [B], and is_last, bool [B], of a block; None if it has neither.

    Args:
      state: what comes before the block; None for rows that are whole in it.
      num_valid: steps of each row in the block.
      is_last: whether each row ends with them.
      batch: B.
      size: steps of the block.
      fresh: a state of this direction; None if the variant takes whole rows only.
      unit: a row that goes on has a multiple of so many steps.
      first: units that the first block of a row needs if the row goes on.
    """
    _check_state(state, fresh, batch)
    if num_valid is None and is_last is None and state is None:
        return None, None
    for name, given in (("num_valid", num_valid), ("is_last", is_last)):
        if given is None:
            raise ValueError(f"{name}: got None, must be [{batch}] for a block with ends")
    num_valid, is_last = _array(num_valid), _array(is_last)
    if num_valid.shape != (batch,) or not jnp.issubdtype(num_valid.dtype, jnp.integer):
        raise ValueError(
            f"num_valid: got {num_valid.dtype} of shape {num_valid.shape}, must be integers "
            f"[{batch}]"
        )
    if is_last.shape != (batch,) or is_last.dtype != bool:
        raise ValueError(
            f"is_last: got {is_last.dtype} of shape {is_last.shape}, must be bool [{batch}]"
        )
    if isinstance(num_valid, np.ndarray):
        for row, count in enumerate(num_valid.tolist()):
            if not 0 <= count <= size:
                raise ValueError(f"num_valid[{row}]: got {count}, must be 0 to {size}")
    if state is not None and isinstance(num_valid, np.ndarray) and isinstance(is_last, np.ndarray):
        has_begun = (
            state["start"] != 0 if isinstance(state["start"], np.ndarray) else [True] * batch
        )
        for row in np.flatnonzero(~is_last).tolist():
            count, least = int(num_valid[row]), 0 if has_begun[row] else first * unit
            if count % unit:
                allowed = f"a multiple of {unit} in a row that goes on"
            elif 0 < count < least:
                allowed = f"at least {least} in the first block of a row that goes on"
            else:
                continue
            raise ValueError(f"num_valid[{row}]: got {count}, must be {allowed}")
    return num_valid.astype(jnp.int32, copy=False), is_last


def _array(value: Any) -> Array:
    return value if isinstance(value, jax.Array) else np.asarray(value)


def _check_state(state: Any, fresh: Any, batch: int) -> None:
    if state is None:
        return
    if fresh is None:
        raise ValueError("state: got one, must be None: the variant takes whole rows only")
    structure: Any = jax.tree.structure(fresh)
    if jax.tree.structure(state) != structure:
        raise ValueError("state: got another pytree, must be of this direction, as in codec.model")
    if np.shape(state["start"]) != (batch,):
        raise ValueError(f"state: got {len(state['start'])} rows, the block has {batch}")
