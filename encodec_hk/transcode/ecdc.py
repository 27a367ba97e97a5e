"""The headers of .ecdc files for a codec, and which files a codec decodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import encodec_hk
from encodec_hk import bitstream
from encodec_hk import config
from encodec_hk.pretrained import locations

SUFFIX = ".ecdc"
# How the `source` of weights begins that may not be Meta's although their name is: those trained
# here, and those of others. Version 0 stores no more than the name.
_OTHER_WEIGHTS = ("trained by", locations.FOREIGN)


def header(
    codec: encodec_hk.Codec,
    num_codebooks: int,
    num_samples: int | None,
    version: int | None = None,
    lm: bool = False,
) -> bitstream.Header:
    """Return the header of a file with a codec's codes.

    A `num_samples` of None is unknown yet. A version of None stands for 0, Meta's, if the codec is
    one of Meta's two models, else for 1. `lm` is for Meta's language model, and version 0.

    Raises:
      ValueError: if version 0 does not support the codec.
    """
    difference = _meta_difference(codec)
    if lm:
        if version or difference:
            raise ValueError(f"--entropy=meta: for version 0 alone; {difference or 'got v1'}")
        version = 0
    if version is None:
        version = 1 if difference or codec.codes_of.source.startswith(_OTHER_WEIGHTS) else 0
    elif version == 0 and difference:
        raise ValueError(f"--format=v0: supports Meta's models only; {difference}")
    return bitstream.Header(
        version=version,
        name=codec.codes_of.name,
        num_codebooks=num_codebooks,
        num_samples=num_samples,
        fingerprint=codec.codes_of.fingerprint if version else None,
        lm=lm,
        **_geometry(codec),
    )


def copied(
    found: bitstream.Header, num_codebooks: int, version: int | None, lm: bool = False
) -> bitstream.Header:
    """Return the header for a copy of a file's codes; a version of None keeps that of the file.

    `lm` is for Meta's language model, which the copy does not use unless told to.

    Raises:
      ValueError: if the version does not support the file or the language model.
    """
    version = found.version if version is None else version
    if lm and version:
        raise ValueError("--entropy=meta: for version 0 alone, the copy is of version 1")
    if version and not found.fingerprint:
        raise ValueError("--format=v1: version 0 does not say which checkpoint its codes are of")
    return dataclasses.replace(
        found,
        version=version,
        num_codebooks=num_codebooks,
        fingerprint=found.fingerprint if version else None,
        lm=lm,
        # A file of version 1 may be shorter than its header says.
        num_samples=None if found.version > version else found.num_samples,
    )


def coder_for(
    header: bitstream.Header, entropy: str, language: Callable[[], bitstream.EntropyCoder | None]
) -> bitstream.EntropyCoder | None:
    """Return the coder for a new file, None for plain codes.

    Args:
      header: of the file.
      entropy: as in `plan.Options`.
      language: returns the coder of the codec's language model, None without one.

    Raises:
      ValueError: if `entropy` is "language" and the file cannot have it.
    """
    if entropy == "none" or (entropy == "auto" and header.version == 0):
        return None
    problem, coder = None, None
    if header.version == 0:
        problem = "got a file of version 0, must be version 1 (--format=v1)"
    elif (coder := language()) is None:
        problem = "the checkpoint has no language model; --language=FILE names one"
    elif coder.codec != header.fingerprint:
        own = "unknown" if header.fingerprint is None else header.fingerprint[:16]
        problem = f"the language model is for the codec {coder.codec[:16]}, the codes are of {own}"
    elif header.num_codebooks > coder.max_codebooks:
        problem = (
            f"got {header.num_codebooks} codebooks, the language model has {coder.max_codebooks}"
        )
    if problem is None:
        return coder
    if entropy == "language":
        raise ValueError(f"--entropy=language: {problem}")
    return None


def check(found: bitstream.Header, codec: encodec_hk.Codec) -> None:
    """Check that a codec decodes a file, of as many codebooks as it has.

    Raises:
      ValueError: if the file was made with another model or checkpoint; the message names both.
    """
    own = codec.codes_of
    made_with, here = found.name, own.name
    is_same = made_with == here
    # A decoder that was converted alone knows the name only.
    if found.fingerprint is not None and own.fingerprint is not None:
        is_same = found.fingerprint == own.fingerprint
        made_with += f" (fingerprint {found.fingerprint[:16]})"
        here += f" ({own.fingerprint[:16]})"
    if not is_same:
        raise ValueError(
            f"made with {made_with}, the checkpoint here is {here}; --checkpoint=FILE names another"
        )
    for name, value in _geometry(codec).items():
        if getattr(found, name) != value:
            raise ValueError(
                f"made with {name} {getattr(found, name)}, the checkpoint here has {value}"
            )


def num_codebooks(
    found: bitstream.Header, bandwidth: float | None, num_codebooks: int | None
) -> int:
    """Return the number of codebooks to read of a file: as asked for, or all.

    Raises:
      ValueError: if the file has fewer, or the bandwidth is no whole number of codebooks.
    """
    kbps = found.kbps / found.num_codebooks
    exact: float = found.num_codebooks
    if bandwidth is not None:
        exact = bandwidth / kbps
    elif num_codebooks is not None:
        exact = num_codebooks
    count = round(exact)
    if abs(exact - count) > 1e-6 or not 1 <= count <= found.num_codebooks:
        what = f"{num_codebooks} codebooks" if bandwidth is None else f"{bandwidth:g} kbps"
        raise ValueError(
            f"got {what}, the file has {found.num_codebooks} codebooks of {kbps:g} kbps"
        )
    return count


def _geometry(codec: encodec_hk.Codec) -> dict[str, Any]:
    """Return what the headers of all files of a codec have in common."""
    return {
        "sample_rate": codec.sample_rate,
        "channels": codec.channels,
        "hop_length": codec.hop_length,
        "bits": config.bits_per_codebook(codec.model_config),
        "segment_length": config.segment_length(codec.model_config),
        "segment_stride": config.segment_stride(codec.model_config),
        "normalize": codec.model_config.normalize,
    }


def _meta_difference(codec: encodec_hk.Codec) -> str | None:
    """Return how a codec differs from the model of Meta's of its name; None if it does not."""
    name = codec.codes_of.name
    meta = bitstream.META_MODELS.get(name)
    if meta is None:
        return f"got {name}, must be {' or '.join(bitstream.META_MODELS)}"
    for field, value in _geometry(codec).items():
        if getattr(meta, field) != value:
            return f"got {name} with {field} {value}, Meta's has {getattr(meta, field)}"
    return None
