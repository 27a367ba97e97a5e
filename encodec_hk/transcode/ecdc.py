"""How .ecdc files go with a codec: what their headers say, and which files it decodes."""

from __future__ import annotations

from typing import Any

import encodec_hk
from encodec_hk import bitstream
from encodec_hk import config

# How checkpoints that were trained here begin to tell of their source: Meta's format does not tell
# them from Meta's own.
_TRAINED = "trained by"


def default_version(codec: encodec_hk.Codec) -> int:
    """0, Meta's, where the codec is one of Meta's two models, else 1."""
    is_meta = codec.name in bitstream.META_MODELS and not codec.source.startswith(_TRAINED)
    return 0 if is_meta and not _meta_differences(codec) else 1


def header(
    codec: encodec_hk.Codec, num_codebooks: int, num_samples: int | None, version: int
) -> bitstream.Header:
    """The header of a file with a codec's codes.

    Args:
      codec: what codes.
      num_codebooks: K.
      num_samples: of the signal; None where it is not known.
      version: of the format.

    Raises:
      ValueError: version 0 is not for this codec.
    """
    if version == 0:
        differences = _meta_differences(codec)
        if differences:
            raise ValueError(f"--format=v0: is for Meta's models; {differences[0]}")
    return bitstream.Header(
        version=version,
        name=codec.name,
        num_codebooks=num_codebooks,
        num_samples=num_samples,
        fingerprint=codec.fingerprint if version else None,
        **_facts(codec),
    )


def check(found: bitstream.Header, codec: encodec_hk.Codec) -> None:
    """Checks that a codec decodes a file.

    Raises:
      ValueError: the file was made with another model or checkpoint, which both are named.
    """
    own, other = codec.fingerprint, found.fingerprint
    if other is not None and other != own:
        raise ValueError(
            f"made with {found.name} (fingerprint {other[:16]}), the checkpoint here is "
            f"{codec.name} ({own[:16]}); --checkpoint=FILE names another"
        )
    if other is None and found.name != codec.name:
        raise ValueError(
            f"made with {found.name}, the checkpoint here is {codec.name}; --checkpoint=FILE "
            "names another"
        )
    for name, value in _facts(codec).items():
        if getattr(found, name) != value:
            raise ValueError(
                f"made with {name} {getattr(found, name)}, the checkpoint here has {value}"
            )
    config.bandwidth_for(codec.model_config, found.num_codebooks)


def num_codebooks(
    found: bitstream.Header, bandwidth: float | None, num_codebooks: int | None
) -> int:
    """The codebooks of a file that are asked for, all by default.

    Raises:
      ValueError: it has not as many, or the bandwidth is no whole number of them.
    """
    if num_codebooks is None and bandwidth is None:
        return found.num_codebooks
    one = found.kbps / found.num_codebooks
    asked = num_codebooks
    if asked is None and bandwidth is not None:
        asked = round(bandwidth / one)
        if abs(bandwidth / one - asked) > 1e-6:
            asked = 0
    if not asked or not 1 <= asked <= found.num_codebooks:
        what = f"{num_codebooks} codebooks" if bandwidth is None else f"{bandwidth:g} kbps"
        raise ValueError(
            f"got {what}, the file has {found.num_codebooks} codebooks of {one:g} kbps"
        )
    return asked


def _facts(codec: encodec_hk.Codec) -> dict[str, Any]:
    """What a header says of any file of a codec."""
    model = codec.model_config
    return {
        "sample_rate": codec.sample_rate,
        "channels": codec.channels,
        "hop_length": codec.hop_length,
        "bits": config.bits_per_codebook(model),
        "segment_length": config.segment_length(model),
        "segment_stride": config.segment_stride(model),
        "normalize": model.normalize,
    }


def _meta_differences(codec: encodec_hk.Codec) -> list[str]:
    """What keeps a codec from being the model that version 0 knows by its name."""
    model = bitstream.META_MODELS.get(codec.name)
    if model is None:
        return [f"got {codec.name}, must be {' or '.join(bitstream.META_MODELS)}"]
    return [
        f"got {codec.name} with {name} {value}, Meta's has {getattr(model, name)}"
        for name, value in _facts(codec).items()
        if getattr(model, name) != value
    ]
