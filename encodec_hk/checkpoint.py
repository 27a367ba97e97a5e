"""A checkpoint: one safetensors file with the weights and the config of a model.

Tensors are float32 and named `module/path.param`, e.g. `encoder/conv_in.w`. Files saved with
`int16=True` have about half the size:

    NAME        int16, same shape
    NAME:scale  float32, one scale for each row (along the last axis)
    NAME:low    uint8, same shape; encoder only

    float32 = NAME * NAME:scale                      row's peak is +-32767: 1 in 65534 of the peak
    float32 = (256 * NAME + NAME:low) * NAME:scale   24 bits; the scale is a power of two

The encoder gets 24 bits because its outputs decide codes. (Half precision would round each value
to 1 in 4096 of itself.)

The metadata are strings: `format` ("encodec_hk"), `format_version`, `name` of the variant, `config`
(the model config as JSON), and the origin of the weights: `source`, `source_sha256`, `licence`. A
decoder of another model's codes states that model as JSON in `codes_of` (`CodesOf`).

Files of SEANet networks have format version 1. Those of a Vocos decoder, which may lack the
encoder, have version 2, and those of a Fourier encoder or a head "complex" have version 3: older
programs refuse them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections
import numpy as np
import safetensors
import safetensors.numpy

from encodec_hk import config
from encodec_hk.networks import model
from encodec_hk.system import invocation
from encodec_hk.system import part_file

FORMAT = "encodec_hk"
FORMAT_VERSION = "1"
VOCOS_VERSION = "2"
SPECTRA_VERSION = "3"
_VERSIONS = (FORMAT_VERSION, VOCOS_VERSION, SPECTRA_VERSION)

_SCALE, _LOW = ":scale", ":low"
_PEAK = np.float32(32767)  # integer of the largest value of a row
_FINE = "encoder/"  # modules with 24 bits

_METADATA = ("format", "format_version", "name", "config", "source", "source_sha256", "licence")

Params = model.Params


class CodesOf(NamedTuple):
    """The model whose codes a codec makes and decodes; for most codecs, it is their own.

    Attributes:
      name: of the variant.
      source: where its weights come from.
      fingerprint: what .ecdc files hold of it, see `codes_fingerprint`; None if it is not known.
    """

    name: str
    source: str
    fingerprint: str | None


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
      params: Haiku parameters {module: {name: float32 numpy array}}.
      config: the model config (`config.model` of `configs/`), locked.
      metadata: the file's metadata; `name` and `source` alone of a checkpoint of others.
    """

    params: Params
    config: ml_collections.ConfigDict
    metadata: dict[str, str]

    @property
    def name(self) -> str:
        """Name of the variant."""
        return self.metadata["name"]

    @property
    def is_own(self) -> bool:
        """Whether the file has the format of this project."""
        return self.metadata.get("format") == FORMAT

    @property
    def source(self) -> str:
        """Where the weights were read from, or how they were trained."""
        return self.metadata["source"]

    @property
    def codes_of(self) -> CodesOf | None:
        """The model whose codes these weights decode, if it is another."""
        text = self.metadata.get("codes_of")
        return CodesOf(**json.loads(text)) if text else None


def save(
    path: str | os.PathLike[str],
    params: Params,
    model_config: ml_collections.ConfigDict,
    *,
    name: str,
    source: str,
    source_sha256: str,
    licence: str,
    codes_of: CodesOf | None = None,
    int16: bool = False,
) -> None:
    """Write a checkpoint of the variant `name`; its folder is made if it does not exist.

    `source` says where the weights were read from, or how they were trained; `source_sha256` is the
    hexadecimal SHA-256 of that weights file, or "". `codes_of` is the model whose codes the weights
    decode, if it is another. `int16` rounds the parameters to 16 bits, the encoder's to 24.

    Raises:
      ValueError: if the parameters do not fit the config, or are not finite.
    """
    config.validate_model(model_config)
    check_params(params, expected_params(model_config), model_config)
    check_finite(params)
    text = config.to_json(model_config)
    values = (FORMAT, _version(model_config), name, text, source, source_sha256, licence)
    metadata = dict(zip(_METADATA, values, strict=True))
    if codes_of is not None:
        metadata["codes_of"] = json.dumps(codes_of._asdict())
    tensors = {key: np.ascontiguousarray(value) for key, value in _flatten(params).items()}
    if int16:
        tensors = _quantize(tensors)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # `safetensors.numpy.save_file` would make a file that only its owner can read.
    part_file.write(path, safetensors.numpy.save(tensors, metadata=metadata))


def load(
    path: str | os.PathLike[str], build: Callable[..., model.Model] = model.build
) -> Checkpoint:
    """Read a checkpoint; its parameters are float32, also if it was saved with `int16`.

    `build` is `model.build`, or one that has kept the shapes of parameters.

    Raises:
      ValueError: if the file is missing, damaged or of another format or version, or if its
        tensors do not fit its config (then they are listed, - expected, + found).
    """
    metadata = read_metadata(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path}: not a checkpoint of this project (its metadata has no format={FORMAT}); "
            f"`{invocation.command()} convert` makes one from a PyTorch checkpoint"
        )
    version = metadata.get("format_version")
    if version not in _VERSIONS:
        known = f"{', '.join(_VERSIONS[:-1])} and {_VERSIONS[-1]}"
        raise ValueError(f"{path}: format_version {version!r}, this program reads {known}")
    absent = [key for key in _METADATA if key not in metadata]
    if absent:
        raise ValueError(f"{path}: its metadata lacks {', '.join(absent)}")
    params: dict[str, dict[str, np.ndarray]] = {}
    try:
        model_config = config.from_json(metadata["config"])
        for key, tensor in _dequantize(safetensors.numpy.load_file(path)).items():
            module, _, param = key.rpartition(".")
            params.setdefault(module, {})[param] = tensor
        check_params(params, build(model_config).param_shapes(), model_config)
        check_finite(params)
        loaded = Checkpoint(params=params, config=model_config, metadata=metadata)
        _check_codes_of(loaded)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return loaded


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the metadata of any safetensors file, {} if it has none.

    Raises:
      ValueError: if the file is missing, damaged or not a safetensors file.
    """
    if not os.path.isfile(path):
        is_folder = os.path.isdir(path)
        raise ValueError(f"{path}: {'is a folder, not a file' if is_folder else 'no such file'}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error


def is_own(path: str | os.PathLike[str]) -> bool:
    """Return whether a safetensors file has this format; raise as `read_metadata` does."""
    return read_metadata(path).get("format") == FORMAT


def expected_params(model_config: ml_collections.ConfigDict) -> Params:
    """Return the shapes and types of a model's parameters, without making any."""
    return model.build(model_config).param_shapes()


def _version(model_config: ml_collections.ConfigDict) -> str:
    """Return the format version of a model's checkpoints."""
    has_vocos = config.has_vocos(model_config)
    if config.has_fourier(model_config) or (has_vocos and model_config.vocos.head != "polar"):
        return SPECTRA_VERSION
    return VOCOS_VERSION if has_vocos else FORMAT_VERSION


def check_params(
    params: Params, expected: Params, model_config: ml_collections.ConfigDict | None = None
) -> None:
    """Check names, shapes and types of parameters against arrays or `jax.ShapeDtypeStruct`s.

    Those of a config with a Vocos decoder may lack the whole encoder.

    Raises:
      ValueError: if a parameter differs; each is listed, - expected, + found.
    """
    if (
        model_config is not None
        and config.has_vocos(model_config)
        and not model.has_encoder(params)
    ):
        expected = {key: value for key, value in expected.items() if not key.startswith(_FINE)}
    types = [
        {key: f"{value.dtype}{list(value.shape)}" for key, value in _flatten(tree).items()}
        for tree in (expected, params)
    ]
    lines = difference(*types)
    if lines:
        raise ValueError("\n".join(["the tensors are not those of the config:", *lines]))


def _quantize(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Round tensors to integers with a scale for each row."""
    stored = {}
    for key, value in tensors.items():
        scale = np.max(np.abs(value), axis=-1, keepdims=True) / _PEAK
        scale = np.where(scale > 0, scale, np.float32(1))
        if key.startswith(_FINE):  # exact, so that reading and writing again changes nothing
            scale = np.exp2(np.ceil(np.log2(scale)) - 8)
            integers = np.round(value / scale).astype(np.int32)
            stored[key] = (integers >> 8).astype(np.int16)
            stored[key + _LOW] = (integers & 255).astype(np.uint8)
        else:
            stored[key] = np.round(value / scale).astype(np.int16)
        stored[key + _SCALE] = scale
    return stored


def _dequantize(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Undo `_quantize`; tensors that do not fit together are kept, for `check_params` to find."""
    tensors = dict(stored)
    for key, value in stored.items():
        scale, low = stored.get(key + _SCALE), stored.get(key + _LOW)
        if value.dtype != np.int16 or scale is None or scale.dtype != np.float32:
            continue
        if scale.shape != (*value.shape[:-1], 1):
            continue
        if low is not None:
            if low.dtype != np.uint8 or low.shape != value.shape:
                continue
            value = 256 * value.astype(np.int32) + tensors.pop(key + _LOW)
        tensors[key] = (value * tensors.pop(key + _SCALE)).astype(np.float32)
    return tensors


def check_finite(params: Params) -> None:
    """Raise ValueError if a parameter has a value that is not finite."""
    bad = [key for key, value in _flatten(params).items() if not np.isfinite(value).all()]
    if bad:
        raise ValueError(f"NaN or infinity in {', '.join(bad)}")


def fingerprint(model_config: ml_collections.ConfigDict, params: Params) -> str:
    """Return the SHA-256 of a model's config and parameters, in hexadecimal digits.

    The bytes are the config's JSON (`config.to_json`), then, for each parameter in alphabetical
    order, `NAME SHAPE` and its little-endian float32 bytes.
    """
    digest = hashlib.sha256(config.to_json(model_config).encode())
    for name, value in sorted(_flatten(params).items()):
        values = np.asarray(value, "<f4")
        digest.update(f"{name} {list(values.shape)}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def codes_fingerprint(model_config: ml_collections.ConfigDict, params: Params) -> str | None:
    """Return what .ecdc files hold of a model: what decides the codes, in hexadecimal digits.

    It is the `fingerprint`, but of a model with a Vocos decoder that of the model without its
    decoder and the decoder's fields, since the codes do not depend on who decodes them; None
    without an encoder.
    """
    if not config.has_vocos(model_config):
        return fingerprint(model_config, params)
    if not model.has_encoder(params):
        return None
    fields = json.loads(config.to_json(model_config)) | {"decoder": "seanet"}
    coding = {key: value for key, value in params.items() if not key.startswith("decoder/")}
    return fingerprint(config.from_json(json.dumps(fields)), coding)


def difference(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return the lines in which two tables differ: "- NAME EXPECTED" and "+ NAME FOUND"."""
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            lines += [f"- {name} {expected[name]}"] if name in expected else []
            lines += [f"+ {name} {found[name]}"] if name in found else []
    return lines


def _check_codes_of(loaded: Checkpoint) -> None:
    try:
        if (other := loaded.codes_of) is None:
            return
        texts = (other.name, other.source, other.fingerprint or "")
        is_right = all(isinstance(text, str) for text in texts)
    except (TypeError, ValueError):  # other fields, or not JSON
        is_right = False
    if not is_right:
        raise ValueError("its metadata has a damaged codes_of")


def _flatten(params: Params) -> dict[str, Any]:
    return {
        f"{module}.{name}": value
        for module, values in params.items()
        for name, value in values.items()
    }
