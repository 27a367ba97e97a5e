"""EnCodec (arXiv 2210.13438) in Haiku: a neural audio codec for any batch, length and rate."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from encodec_hk.version import __version__

if TYPE_CHECKING:
    from encodec_hk.codec import Codec
    from encodec_hk.codec import Encoded
    from encodec_hk.codec import load

__all__ = ["Codec", "Encoded", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import the codec, and with it JAX, on first use: worker processes without JAX start fast."""
    if name not in ("Codec", "Encoded", "load"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("encodec_hk.codec"), name)


def __dir__() -> list[str]:
    return __all__
