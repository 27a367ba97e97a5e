"""A language model as one safetensors file of integers.

Tensors are named `MODULE.NAME`, such as `layer_0_first.w`: int8 for weights and tables, int32 for
biases, shifts and the table of the norm. `code_model` says what they do.

The metadata are strings: `format` ("encodec_hk_language"), `format_version`, `name` of the codec's
variant, `codec` (the fingerprint that .ecdc files hold of it), `sizes` (`code_model.Sizes` as
JSON), and `source` and `licence` of the weights.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from encodec_hk.language import code_model
from encodec_hk.language import code_params
from encodec_hk.system import part_file
from encodec_hk.system import rules

FORMAT = "encodec_hk_language"
FORMAT_VERSION = "1"
SUFFIX = "_language.safetensors"  # replaces .safetensors in the name of the codec's checkpoint

_METADATA = ("format", "format_version", "name", "codec", "sizes", "source", "licence")
_MAX_BYTES = 2**28  # of a file: bounds the memory of readers
_SIZE_RULES: dict[str, rules.Rule] = {
    "width": rules.integer(1),
    "head_width": rules.integer(1),
    "dilations": rules.tuple_of("whole numbers above 0", lambda value: rules.is_int(value, 1)),
    "num_codebooks": rules.integer(1),
    "codebook_size": rules.POWER_OF_TWO,
    "context_codebooks": rules.integer(1),
}


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A language model over the codes of one codec.

    Attributes:
      params: integers {module: {name: numpy array}}, checked.
      sizes: of the network.
      name: of the codec's variant.
      codec: the codec's fingerprint, as .ecdc files hold it, 64 hexadecimal digits.
      source: how the weights were trained.
      licence: of the weights.
    """

    params: code_model.Params
    sizes: code_model.Sizes
    name: str
    codec: str
    source: str
    licence: str

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.codec):
            raise ValueError(f"codec: got {self.codec!r}, must be 64 hexadecimal digits")
        check_sizes("sizes", self.sizes)
        code_params.check(self.params, self.sizes)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the sizes and the integers, in hexadecimal digits."""
        digest = hashlib.sha256(_to_json(self.sizes).encode())
        for name, value in sorted(_flatten(self.params).items()):
            digest.update(f"{name} {list(value.shape)}".encode())
            digest.update(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).data)
        return digest.hexdigest()


def check_sizes(path: str, sizes: code_model.Sizes) -> None:
    """Check the sizes of a network; `path` names them in messages.

    Raises:
      ValueError: if one is wrong; one line names it, its value and what is allowed.
    """
    rules.check(path, sizes._asdict(), _SIZE_RULES)
    for field, most in (
        ("width", 512),
        ("head_width", 512),
        ("num_codebooks", 64),
        ("context_codebooks", 64),
        ("codebook_size", 2**14),
    ):
        if getattr(sizes, field) > most:
            raise rules.error(f"{path}.{field}", getattr(sizes, field), f"at most {most}")
    if len(sizes.dilations) > 32 or max(sizes.dilations) > 1024:
        raise rules.error(f"{path}.dilations", sizes.dilations, "at most 32 of at most 1024")


def save(path: str | os.PathLike[str], model: LanguageModel) -> None:
    """Write a language model; its folder is made if it does not exist."""
    values = (
        *(FORMAT, FORMAT_VERSION, model.name, model.codec, _to_json(model.sizes)),
        *(model.source, model.licence),
    )
    tensors = {key: np.ascontiguousarray(value) for key, value in _flatten(model.params).items()}
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = dict(zip(_METADATA, values, strict=True))
    part_file.write(path, safetensors.numpy.save(tensors, metadata=metadata))


def load(path: str | os.PathLike[str]) -> LanguageModel:
    """Read a language model.

    Raises:
      ValueError: in one line, if the file is missing, damaged or of another format or version, or
        if its integers do not fit its sizes or would not give exact products.
    """
    if not os.path.isfile(path):
        is_folder = os.path.isdir(path)
        raise ValueError(f"{path}: {'is a folder, not a file' if is_folder else 'no such file'}")
    if (size := os.path.getsize(path)) > _MAX_BYTES:
        raise ValueError(f"{path}: got {size} bytes, a language model has at most {_MAX_BYTES}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            _check_format(path, metadata)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        line = " ".join(str(error).split())
        raise ValueError(f"{path}: not a whole safetensors file ({line})") from error
    params: dict[str, dict[str, np.ndarray]] = {}
    for key, value in tensors.items():
        module, _, name = key.rpartition(".")
        params.setdefault(module, {})[name] = value
    try:
        sizes = _from_json(metadata["sizes"])
        return LanguageModel(
            params, sizes, *(metadata[key] for key in ("name", "codec", "source", "licence"))
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _check_format(path: str | os.PathLike[str], metadata: dict[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path}: not a language model (its metadata has no format={FORMAT})")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version {version!r}, this program reads {FORMAT_VERSION}")
    if absent := [key for key in _METADATA if key not in metadata]:
        raise ValueError(f"{path}: its metadata lacks {', '.join(absent)}")


def _to_json(sizes: code_model.Sizes) -> str:
    return json.dumps(sizes._asdict(), sort_keys=True)


def _from_json(text: str) -> code_model.Sizes:
    try:
        fields: Any = json.loads(text)
        fields["dilations"] = tuple(fields["dilations"])
        return code_model.Sizes(**fields)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"sizes: got {text[:60]!r}, must be the sizes of a model") from error


def _flatten(params: code_model.Params) -> dict[str, np.ndarray]:
    return {
        f"{module}.{name}": np.asarray(value)
        for module, values in params.items()
        for name, value in values.items()
    }
