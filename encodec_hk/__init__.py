"""EnCodec (arXiv 2210.13438) in Haiku: a neural audio codec for any batch, length and rate."""

from encodec_hk.codec import Codec
from encodec_hk.codec import Encoded
from encodec_hk.codec import load
from encodec_hk.version import __version__

__all__ = ["Codec", "Encoded", "__version__", "load"]
