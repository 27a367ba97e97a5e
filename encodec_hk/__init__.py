"""EnCodec (arXiv 2210.13438) in Haiku: a neural audio codec for any batch, length and rate.

    codec = encodec_hk.load("encodec_24khz_small")
    encoded = codec.encode(audio, bandwidth=6.0)  # audio [B, T, C] float32, or a list of [T, C]
    audio = codec.decode(encoded)  # as many samples as went in

`load` returns a `Codec`, which has the methods for whole signals, streams and blocks. `Encoded` is
what it encodes to. `enable_compilation_cache` makes the next process start sooner. Other modules to
import: `encodec_hk.configs` has the configs of the variants, `encodec_hk.bitstream` reads and
writes .ecdc files.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from encodec_hk.version import __version__

if TYPE_CHECKING:
    from encodec_hk.blocks.compilation_cache import enable_compilation_cache
    from encodec_hk.codec import Codec
    from encodec_hk.codec import Encoded
    from encodec_hk.codec import load

__all__ = ["Codec", "Encoded", "__version__", "enable_compilation_cache", "load"]

_MODULES = {
    "Codec": "codec",
    "Encoded": "codec",
    "enable_compilation_cache": "blocks.compilation_cache",
    "load": "codec",
}


def __getattr__(name: str) -> Any:
    """Import a public name, and with it JAX, on first use: processes without JAX start fast."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"encodec_hk.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
