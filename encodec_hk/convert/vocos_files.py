"""Reads checkpoints of `vocos`: `config.yaml` and `pytorch_model.bin`, in a folder or on the hub.

Those for EnCodec's codes are read, such as charactr/vocos-encodec-24khz. They hold a decoder, and
codebooks of the EnCodec model that `encodec_model` names.
"""

from __future__ import annotations

import importlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from encodec_hk import config
from encodec_hk.convert import pytorch_files
from encodec_hk.pretrained import hub
from encodec_hk.pretrained import locations
from encodec_hk.pretrained import transformers_files
from encodec_hk.system import extras
from encodec_hk.system import file_errors
from encodec_hk.system import rules

WEIGHTS = transformers_files.PICKLED_WEIGHTS

_ENCODECS = ("encodec_24khz",)  # the mono ones that `encodec_model` can name; also configs of ours
_CLASSES = {
    "feature_extractor": "vocos.feature_extractors.EncodecFeatures",
    "backbone": "vocos.models.VocosBackbone",
    "head": "vocos.heads.ISTFTHead",
}
_DEFAULTS: dict[str, dict[str, Any]] = {  # None: must be stated
    "feature_extractor": {
        "encodec_model": "encodec_24khz",
        "bandwidths": [1.5, 3.0, 6.0, 12.0],
        "train_codebooks": False,
    },
    "backbone": {
        "input_channels": None,
        "dim": None,
        "intermediate_dim": None,
        "num_layers": None,
        "adanorm_num_embeddings": None,
        "layer_scale_init_value": 0,  # of fresh weights only
    },
    "head": {"dim": None, "n_fft": None, "hop_length": None, "padding": "same"},
}


class VocosCheckpoint(NamedTuple):
    """A checkpoint of `vocos` in memory.

    Attributes:
      name: hub name, or name of the folder.
      files: path of the weights, in a tuple.
      tensors: numpy arrays; all float types become float32.
      model_config: the model; the encoder and the codebooks are those of EnCodec's variant.
      encodec: name of that variant.
      sha256: hexadecimal SHA-256 of the weights.
    """

    name: str
    files: tuple[pathlib.Path, ...]
    tensors: dict[str, np.ndarray]
    model_config: ml_collections.ConfigDict
    encodec: str
    sha256: str

    @property
    def file(self) -> str:
        """Name of the weights file."""
        return self.files[0].name


def read(source: str) -> VocosCheckpoint | None:
    """Read a folder, its weights file, or a hub name; None if it holds no Vocos.

    Raises:
      ValueError: if a file is missing, damaged or unsafe, or the network is not supported here.
    """
    path = pathlib.Path(source)
    fetch, name = None, source
    if path.name == WEIGHTS and path.is_file():
        path = path.parent
    if path.is_dir():
        fetch, name = transformers_files.folder_fetch(path), path.resolve().name
    elif not path.exists() and hub.is_name(source):
        fetch = hub.Repository(source).fetch
    if (
        fetch is None
        or fetch(transformers_files.CONFIG)
        or not (config_yaml := fetch(locations.VOCOS_CONFIG))
    ):
        return None
    model_config, encodec = _parse(config_yaml)
    if (weights := fetch(WEIGHTS)) is None:
        raise ValueError(f"{source}: has {locations.VOCOS_CONFIG}, but not {WEIGHTS} beside it")
    tensors = pytorch_files.load_tensors(weights)
    digest = transformers_files.sha256(weights)
    return VocosCheckpoint(name, (weights,), tensors, model_config, encodec, digest)


def _parse(path: pathlib.Path) -> tuple[ml_collections.ConfigDict, str]:
    """Return the model config that a `config.yaml` describes, and EnCodec's variant."""
    omegaconf = extras.require("omegaconf")
    try:
        with file_errors.as_value_error(path):
            text = path.read_text()
        sections = omegaconf.OmegaConf.to_container(omegaconf.OmegaConf.create(text))
    except Exception as error:  # the YAML parser and omegaconf share no exception class
        line = file_errors.first_line(error)
        raise ValueError(f"{path}: cannot be read ({line})") from error
    found = transformers_files.translate(path, _translated, sections)
    return found["model_config"], found["encodec"]


def _translated(sections: Any) -> dict[str, Any]:
    features, backbone, head = (_arguments(sections, name) for name in _CLASSES)
    encodec = features["encodec_model"]
    if encodec not in _ENCODECS:
        raise rules.error("feature_extractor.encodec_model", encodec, " or ".join(_ENCODECS))
    variant = importlib.import_module(f"encodec_hk.configs.{encodec}").get_config()
    fields = variant.model.to_dict()
    if not isinstance(bandwidths := features["bandwidths"], list):
        raise rules.error("feature_extractor.bandwidths", bandwidths, "a list of kbps")
    bandwidths = [float(kbps) for kbps in bandwidths]
    for name, value, expected in (
        ("backbone.input_channels", backbone["input_channels"], fields["latent_dim"]),
        ("backbone.adanorm_num_embeddings", backbone["adanorm_num_embeddings"], len(bandwidths)),
        ("head.dim", head["dim"], backbone["dim"]),
        ("head.hop_length", head["hop_length"], config.hop_length(variant.model)),
        ("head.padding", head["padding"], "same"),
    ):
        if value != expected:
            raise rules.error(name, value, repr(expected))
    fields |= {
        "decoder": "vocos",
        "bandwidths": bandwidths,
        "num_codebooks": config.num_codebooks_for(variant.model, max(bandwidths)),
        "vocos": {
            "dim": backbone["dim"],
            "intermediate": backbone["intermediate_dim"],
            "num_layers": backbone["num_layers"],
            "n_fft": head["n_fft"],
            "bandwidths": bandwidths,
            "causal": False,
        },
    }
    return {"model_config": config.from_json(json.dumps(fields)), "encodec": encodec}


def _arguments(sections: Any, name: str) -> dict[str, Any]:
    """Return the arguments of a section's class, the only one that is supported."""
    section = sections.get(name) if isinstance(sections, Mapping) else None
    if not isinstance(section, Mapping):
        raise ValueError(f"lacks {name}: it is no config of vocos")
    if section.get("class_path") != _CLASSES[name]:
        raise rules.error(f"{name}.class_path", section.get("class_path"), _CLASSES[name])
    given = section.get("init_args") or {}
    if unknown := sorted(given.keys() - _DEFAULTS[name].keys()):
        raise ValueError(f"{name}: unknown arguments {', '.join(unknown)}")
    arguments = {**_DEFAULTS[name], **given}
    for argument, value in arguments.items():
        if value is None and argument != "layer_scale_init_value":
            raise ValueError(f"{name}: lacks {argument}")
    return arguments
