"""Language models with random integers, made without a random generator of any library."""

import hashlib

import numpy as np

from encodec_hk.language import code_model
from encodec_hk.language import code_params
from encodec_hk.language import integer_arithmetic
from encodec_hk.language import language_file

SIZES = code_model.Sizes(24, 16, (1, 2, 4), 4, 64)
CODEC = "0123456789abcdef" * 4


def integers(label, shape, low, high):
    """Return the same int64 from `low` to `high` for a label everywhere: bytes of SHA-256."""
    count, data = int(np.prod(shape)), b""
    for number in range(-(-count * 2 // 32)):
        data += hashlib.sha256(f"{label} {number}".encode()).digest()
    values = np.frombuffer(data, "<u2")[:count].astype(np.int64)
    return (low + values % (high - low + 1)).reshape(shape)


def params(sizes=SIZES):
    table = integer_arithmetic.norm_table(sizes.width)
    found = {}
    for module, values in code_params.shapes(sizes).items():
        found[module] = {}
        for name, value in values.items():
            label, low, high = f"{module}.{name}", -127, 127
            if name == "shift":
                low, high = (4, 6) if "logits" in module else (7, 9)
            elif name == "b":
                low, high = -2000, 2000
            drawn = integers(label, value.shape, low, high).astype(value.dtype)
            if name.startswith("norm_"):
                drawn = table[name == "norm_factors"]
            found[module][name] = drawn
    return found


def model(sizes=SIZES, codec=CODEC):
    return language_file.LanguageModel(params(sizes), sizes, "random", codec, "random", "CC0-1.0")


def codes(rows, frames, sizes=SIZES, num_codebooks=None):
    shape = (rows, num_codebooks or sizes.num_codebooks, frames)
    return integers("codes", shape, 0, sizes.codebook_size - 1).astype(np.int32)


def counting_model(codec, audio):
    """Return a language model of how often each code occurs in some audio."""
    sizes = code_model.Sizes(8, 4, (1,), codec.num_codebooks, codec.model_config.codebook_size)
    codes = codec.encode(audio, num_codebooks=sizes.num_codebooks).codes
    found = params(sizes)
    for values in found.values():
        for name in values.keys() & {"w", "b", "shift"}:
            values[name] = np.zeros_like(values[name])
    for k in range(sizes.num_codebooks):
        counts = np.bincount(codes[:, k].ravel(), minlength=sizes.codebook_size) + 0.1
        found[f"head_{k}_logits"]["b"] = np.round(32 * np.log2(counts)).astype(np.int32)
    fingerprint = codec.codes_of.fingerprint
    return language_file.LanguageModel(found, sizes, codec.name, fingerprint, "counts", "CC0-1.0")
