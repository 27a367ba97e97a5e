"""The parameters of a language model: their shapes, and what integers must keep to be exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from encodec_hk.language import code_model
from encodec_hk.language import integer_arithmetic

_CLIP = integer_arithmetic.PEAK


def shapes(sizes: code_model.Sizes) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """Return the shapes and types of the params of a model."""
    width, head_width, num_codes = sizes.width, sizes.head_width, sizes.codebook_size
    num_inner = max(sizes.num_codebooks - 1, 1)
    thresholds, factors = integer_arithmetic.norm_table(width)
    found = {
        "language": {
            "norm_thresholds": jax.ShapeDtypeStruct(thresholds.shape, np.int32),
            "norm_factors": jax.ShapeDtypeStruct(factors.shape, np.int32),
            "tables": jax.ShapeDtypeStruct((sizes.num_tables, num_codes, width), np.int8),
            "inner_tables": jax.ShapeDtypeStruct((num_inner, num_codes, head_width), np.int8),
        }
    }
    products = {}
    for index in range(len(sizes.dilations)):
        products[f"layer_{index}_first"] = 2 * width, width
        products[f"layer_{index}_second"] = width, width
    for index in range(sizes.num_codebooks):
        products[f"head_{index}_hidden"] = width + head_width, head_width
        products[f"head_{index}_logits"] = head_width, num_codes
    for name, (num_inputs, num_outputs) in products.items():
        found[name] = {
            "w": jax.ShapeDtypeStruct((num_inputs, num_outputs), np.int8),
            "b": jax.ShapeDtypeStruct((num_outputs,), np.int32),
            "shift": jax.ShapeDtypeStruct((num_outputs,), np.int32),
        }
    return found


def check(params: code_model.Params, sizes: code_model.Sizes) -> None:
    """Check that integers fit the sizes, and that every product of theirs is exact.

    Raises:
      ValueError: one line that names what is wrong.
    """
    expected, found = (
        {
            f"{module}.{key}": (tuple(value.shape), np.dtype(value.dtype).name)
            for module, values in tree.items()
            for key, value in values.items()
        }
        for tree in (shapes(sizes), params)
    )
    for name in sorted(expected.keys() | found.keys()):
        want, got = expected.get(name), found.get(name)
        if want != got:
            raise ValueError(f"{name}: got {_tensor(got)}, must be {_tensor(want)}")
    for module, values in params.items():
        named = {key: np.asarray(value, np.int64) for key, value in values.items()}
        for key, value in named.items():
            if key in ("w", "tables", "inner_tables") and value.min() < -_CLIP:
                raise ValueError(f"{module}.{key}: got {value.min()}, must be at least {-_CLIP}")
        if "shift" in named:
            _check_product(module, named)
    _check_norm(params["language"], sizes.width)


def _check_product(module: str, values: Mapping[str, np.ndarray]) -> None:
    shift, limit = values["shift"], integer_arithmetic.MAX_SHIFT
    if shift.min() < 0 or shift.max() > limit:
        wrong = shift.min() if shift.min() < 0 else shift.max()
        raise ValueError(f"{module}.shift: got {wrong}, must be 0 to {limit}")
    most = int((_CLIP * np.abs(values["w"]).sum(axis=0) + np.abs(values["b"])).max())
    if most > integer_arithmetic.EXACT:
        raise ValueError(f"{module}: got sums of {most}, must be at most 2**24")


def _check_norm(values: Mapping[str, Any], width: int) -> None:
    thresholds, factors = (
        np.asarray(values[key], np.int64) for key in ("norm_thresholds", "norm_factors")
    )
    if (np.diff(thresholds) <= 0).any() or thresholds[0] <= 0:
        raise ValueError("language.norm_thresholds: got some out of order, must rise from 1 on")
    peak = integer_arithmetic.SUM_PEAK
    if factors.min() < 0 or peak * factors.max() + 2**15 >= 2**31:
        wrong = factors.min() if factors.min() < 0 else factors.max()
        raise ValueError(f"language.norm_factors: got {wrong}, must be 0 to {2**31 // peak - 17}")
    if width * peak**2 >= 2**31:
        raise ValueError(f"width: got {width}, must be at most {2**31 // peak**2}")


def _tensor(found: tuple[Sequence[int], str] | None) -> str:
    return "none" if found is None else f"{found[1]}{list(found[0])}"
