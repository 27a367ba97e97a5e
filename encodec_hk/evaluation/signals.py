"""Pairs of signals that metrics compare: what they must be, and how they are taken apart.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import numpy as np


def pair(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both signals as float64 [T, C], or the ValueError that says what is wrong with them."""
    shapes = np.shape(reference), np.shape(estimate)
    if shapes[0] != shapes[1] or len(shapes[0]) not in (1, 2) or 0 in shapes[0]:
        raise ValueError(
            f"reference and estimate: got shapes {shapes[0]} and {shapes[1]}, must be equal, [T] "
            "or [T, C], with at least one sample"
        )
    return _samples("reference", reference), _samples("estimate", estimate)


def _samples(name: str, samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples)
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"{name}: got samples of {samples.dtype}, must be of a float type")
    if not np.isfinite(samples).all():
        raise ValueError(f"{name}: got samples that are NaN or infinite, all must be finite")
    return samples.astype(np.float64).reshape(len(samples), -1)


def check_rate(sample_rate: int) -> None:
    """Raises ValueError where a sample rate is none."""
    if sample_rate <= 0:
        raise ValueError(f"sample_rate: got {sample_rate}, must be above 0")
