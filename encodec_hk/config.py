"""Validate configurations, compare them, and derive values from their fields.

`variant` is a whole configuration, as `configs/` makes it. `model_config` is its section
`config.model`, which a checkpoint stores. `configs/base.py` documents the fields.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections
import numpy as np
from ml_collections import config_dict

from encodec_hk.system import rules

_SECTION: rules.Rule = ("a ConfigDict", lambda v: isinstance(v, ml_collections.ConfigDict))
_MODEL_RULES: dict[str, rules.Rule] = {
    "sample_rate": rules.integer(1),
    "channels": rules.integer(1),
    "causal": rules.BOOL,
    "ratios": rules.tuple_of("whole numbers above 0", lambda value: rules.is_int(value, 1)),
    "num_filters": rules.integer(1),
    "latent_dim": rules.integer(1),
    "num_residual_layers": rules.integer(0),
    "kernel_size": rules.ODD,
    "last_kernel_size": rules.ODD,
    "residual_kernel_size": rules.ODD,
    "dilation_base": rules.integer(1),
    "compress": rules.integer(1),
    "num_lstm_layers": rules.integer(0),
    "norm": rules.one_of("weight_norm", "time_group_norm", "none"),
    "shortcut": rules.one_of("conv", "identity"),
    "pad_mode": rules.one_of("reflect", "constant"),
    "num_codebooks": rules.integer(1),
    "codebook_size": rules.POWER_OF_TWO,
    "bandwidths": rules.tuple_of("numbers above 0 (kbps)", rules.POSITIVE[1]),
    "normalize": rules.BOOL,
    "segment_seconds": rules.optional(("a number above 0 (seconds)", rules.POSITIVE[1])),
    "overlap": rules.DECAY,
    "encoder": rules.one_of("seanet", "fourier"),
    "fourier": _SECTION,
    "decoder": rules.one_of("seanet", "vocos"),
    "vocos": _SECTION,
}
_FOURIER_RULES: dict[str, rules.Rule] = {
    "dim": rules.integer(1),
    "intermediate": rules.integer(1),
    "num_layers": rules.integer(0),
    "n_fft": rules.integer(1),
}
_VOCOS_RULES: dict[str, rules.Rule] = {
    **_FOURIER_RULES,
    "bandwidths": rules.tuple_of("numbers above 0 (kbps)", rules.POSITIVE[1]),
    "head": rules.one_of("polar", "complex"),
    "causal": rules.BOOL,
}
# The sections of networks other than SEANet, as in configs/base.py; `from_json` adds what lacks.
_SECTIONS: dict[str, dict[str, Any]] = {
    "fourier": {"dim": 256, "intermediate": 768, "num_layers": 6, "n_fft": 1280},
    "vocos": {
        **{"dim": 384, "intermediate": 1152, "num_layers": 8, "n_fft": 1280},
        **{"bandwidths": (1.5, 3.0, 6.0, 12.0), "head": "polar", "causal": False},
    },
}
_LATER = {"vocos": {"head": "polar"}}  # fields that came later; without them is as with these
_NETWORKS = {"encoder": "fourier", "decoder": "vocos"}  # the section where a network is not SEANet
CONVNEXT_KERNEL = 7  # steps, of the convolutions of a Fourier encoder and of a Vocos decoder
_INFERENCE_RULES: dict[str, rules.Rule] = {
    "bandwidth": rules.POSITIVE,
    "batch_size": rules.integer(1),
    "block_seconds": rules.POSITIVE,
    "decode_precision": rules.one_of("float32", "tensorfloat32", "bfloat16"),
}
_BENCH_RULES: dict[str, rules.Rule] = {
    "seconds": rules.tuple_of("numbers above 0 (seconds)", rules.POSITIVE[1]),
    "batches": rules.tuple_of("whole numbers above 0", lambda value: rules.is_int(value, 1)),
    "max_runs": rules.integer(1),
    "min_ratios": (
        "a tuple of (reference, direction, seconds, batch, ratio)",
        lambda value: isinstance(value, tuple) and all(map(_is_floor, value)),
    ),
}
_CONFIG_RULES: dict[str, rules.Rule] = {
    "name": rules.NAME,
    "checkpoint": rules.NAME,
    "model": _SECTION,
    "inference": _SECTION,
}


def validate(variant: ml_collections.ConfigDict) -> None:
    """Check a configuration; sections other than `model` and `inference` are not checked.

    Raises:
      ValueError: if a field is wrong; one line names it, its value and what is allowed.
    """
    rules.check("config", variant, _CONFIG_RULES, others_allowed=True)
    validate_model(variant.model)
    validate_inference(variant.inference)
    bandwidth = variant.inference.bandwidth
    num_codebooks_for(variant.model, bandwidth, field="config.inference.bandwidth")


def validate_model(model_config: ml_collections.ConfigDict) -> None:
    """Check a model configuration like `validate`."""
    model = model_config
    rules.check("config.model", model, _MODEL_RULES)

    def error(field: str, allowed: str) -> ValueError:
        return rules.error(f"config.model.{field}", model[field], allowed)

    if model.num_filters % model.compress:
        raise error("num_filters", f"a multiple of compress ({model.compress})")
    for bandwidth in model.bandwidths:
        num_codebooks_for(model, bandwidth, field="config.model.bandwidths")
    # Each of these needs a whole segment before its first output.
    if model.causal and model.norm == "time_group_norm":
        raise error("norm", "weight_norm or none where causal is True")
    if model.causal and model.normalize:
        raise error("normalize", "False where causal is True")
    if model.causal and model.segment_seconds is not None:
        raise error("segment_seconds", "None where causal is True")
    length = segment_length(model)
    if length is not None and length < hop_length(model):
        seconds = hop_length(model) / model.sample_rate
        raise error("segment_seconds", f"at least one hop ({seconds:.6g} s)")
    rules.check("config.model.fourier", model.fourier, _FOURIER_RULES)
    rules.check("config.model.vocos", model.vocos, _VOCOS_RULES)
    for network in networks_of_spectra(model):
        _validate_spectra(model, network, _NETWORKS[network])
    if has_fourier(model) and model.norm == "time_group_norm":
        raise error("norm", "weight_norm or none where encoder is fourier")
    if has_vocos(model):
        for bandwidth in model.vocos.bandwidths:
            num_codebooks_for(model, bandwidth, field="config.model.vocos.bandwidths")


def _validate_spectra(model: ml_collections.ConfigDict, network: str, section: str) -> None:
    """Check what a network of spectra asks of the rest of a model configuration."""
    if model.channels != 1:
        raise rules.error(
            "config.model.channels", model.channels, f"1 where {network} is {section}"
        )
    hop, n_fft = hop_length(model), model[section].n_fft
    if n_fft % hop or n_fft < 2 * hop or (n_fft - hop) % 2:
        allowed = f"a multiple of the hop ({hop}), twice it or more, and even less the hop"
        raise rules.error(f"config.model.{section}.n_fft", n_fft, allowed)


def validate_inference(inference: Mapping[str, Any], path: str = "config.inference") -> None:
    """Check the settings of inference like `validate`, except that the model has the bandwidth."""
    rules.check(path, inference, _INFERENCE_RULES)


def validate_bench(bench: Mapping[str, Any]) -> None:
    """Check the settings of `run.py bench` like `validate`."""
    rules.check("config.bench", bench, _BENCH_RULES)


class Difference(NamedTuple):
    """A field in which two model configurations differ; None stands for an absent one."""

    field: str
    value: Any
    expected: Any

    def line(self, owner: str) -> str:
        """Return "config.model.FIELD: got VALUE, OWNER has EXPECTED"."""
        return f"config.model.{self.field}: got {self.value!r}, {owner} has {self.expected!r}"


def differences(
    model_config: Mapping[str, Any], expected: Mapping[str, Any], *, folded: bool = False
) -> list[Difference]:
    """Return the fields in which two model configurations differ, in alphabetical order.

    Either may be fields as read from JSON: lists equal tuples. With `folded`, weight_norm equals
    none, as it does for folded weights.
    """

    def normal(value: Any) -> Any:
        value = tuple(value) if isinstance(value, list) else value
        return "none" if folded and value == "weight_norm" else value

    plain = [_flat(fields) for fields in (model_config, expected)]
    alike = [
        section
        for network, section in _NETWORKS.items()
        if plain[0][network] == plain[1][network] == section
    ]
    found = [
        Difference(field, *(fields.get(field) for fields in plain))
        for field in sorted(set().union(*plain))
        if "." not in field or field.split(".")[0] in alike
    ]
    return [each for each in found if normal(each.value) != normal(each.expected)]


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with those of a section as "SECTION.FIELD"."""
    flat = {**dict.fromkeys(_NETWORKS, "seanet"), **dict(fields.items())}
    for section in _NETWORKS.values():
        values = flat.pop(section, None)
        values = _LATER.get(section, {}) | dict((values or {}).items())
        flat |= {f"{section}.{name}": value for name, value in values.items()}
    return flat


def _effective(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields without those that older checkpoints lack, where they mean the same.

    These are the fields of networks that are SEANet, once the only one, and those in _LATER.
    """
    found = dict(fields)
    for network, section in _NETWORKS.items():
        if fields[network] == "seanet":
            del found[network], found[section]
        else:
            later = _LATER.get(section, {})
            values = fields[section].items()
            found[section] = {k: v for k, v in values if k not in later or v != later[k]}
    return found


def _is_floor(value: Any) -> bool:
    """Return whether a value is (reference, direction, seconds, batch, ratio)."""
    if not (isinstance(value, tuple) and len(value) == 5):
        return False
    names, numbers = value[:2], value[2:]
    return all(isinstance(name, str) for name in names) and all(map(rules.is_number, numbers))


def hop_length(model_config: ml_collections.ConfigDict) -> int:
    """Return the audio samples of a latent frame."""
    return math.prod(model_config.ratios)


def frame_rate(model_config: ml_collections.ConfigDict) -> int:
    """Return latent frames per second, rounded up as in the reference."""
    return -(-model_config.sample_rate // hop_length(model_config))


def bits_per_codebook(model_config: ml_collections.ConfigDict) -> int:
    """Return the bits of one code."""
    return int(model_config.codebook_size).bit_length() - 1


def bandwidth_for(model_config: ml_collections.ConfigDict, num_codebooks: int) -> float:
    """Return the kbps of codes from the first `num_codebooks` codebooks.

    Raises:
      ValueError: if the model does not have as many codebooks, or the count is below 1.
    """
    if isinstance(num_codebooks, np.integer):
        num_codebooks = int(num_codebooks)
    if not rules.is_int(num_codebooks, 1) or num_codebooks > model_config.num_codebooks:
        raise rules.error(
            "num_codebooks", num_codebooks, f"a whole number, 1 to {model_config.num_codebooks}"
        )
    return num_codebooks * (bits_per_codebook(model_config) * frame_rate(model_config)) / 1000


def num_codebooks_for(
    model_config: ml_collections.ConfigDict, bandwidth: float, *, field: str = "bandwidth"
) -> int:
    """Return the number of codebooks whose codes make a bandwidth in kbps.

    The reference rounds down, `max(1, floor(1000 * kbps / (bits * frame_rate)))`. Here a bandwidth
    that no number of codebooks makes exactly is an error: a caller gets the bandwidth asked for.

    Raises:
      ValueError: if the bandwidth, named `field`, is not that of 1 to all codebooks, to within 1e-6
        of a codebook.
    """
    if isinstance(bandwidth, np.number):
        bandwidth = bandwidth.item()
    if not rules.is_number(bandwidth):
        raise rules.error(field, bandwidth, "a number (kbps)")
    exact = 1000 * bandwidth / (bits_per_codebook(model_config) * frame_rate(model_config))
    nearest = min(max(round(exact), 1), model_config.num_codebooks)
    if abs(exact - nearest) > 1e-6:
        raise rules.error(
            field,
            bandwidth,
            f"a whole number of codebooks of {bandwidth_for(model_config, 1):g} kbps, 1 to "
            f"{model_config.num_codebooks}; nearest is {bandwidth_for(model_config, nearest):g}",
        )
    return nearest


def segment_length(model_config: ml_collections.ConfigDict) -> int | None:
    """Return the samples of a segment; None if the signal is not cut into segments."""
    if model_config.segment_seconds is None:
        return None
    return int(model_config.segment_seconds * model_config.sample_rate)


def segment_stride(model_config: ml_collections.ConfigDict) -> int | None:
    """Return the samples from one segment's start to the next's; None without segments."""
    length = segment_length(model_config)
    return None if length is None else max(1, int((1 - model_config.overlap) * length))


def has_fourier(model_config: ml_collections.ConfigDict) -> bool:
    """Return whether the encoder is one of spectra."""
    return bool(model_config.encoder == "fourier")


def has_vocos(model_config: ml_collections.ConfigDict) -> bool:
    """Return whether the decoder is Vocos."""
    return bool(model_config.decoder == "vocos")


def networks_of_spectra(model_config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Return which of "encoder" and "decoder" are not SEANet; they have no weight norm."""
    return tuple(name for name, section in _NETWORKS.items() if model_config[name] == section)


def vocos_norms(model_config: ml_collections.ConfigDict) -> tuple[int, ...]:
    """Return which of a Vocos decoder's norms codes of 1, 2, ... all codebooks take.

    There are norms for each of `vocos.bandwidths`; other bandwidths take those of the nearest, of
    two equally near ones the first.
    """
    counts = [num_codebooks_for(model_config, kbps) for kbps in model_config.vocos.bandwidths]

    def distance(norm: int, count: int) -> int:
        return abs(counts[norm] - count)

    return tuple(
        min(range(len(counts)), key=lambda norm: distance(norm, count))
        for count in range(1, model_config.num_codebooks + 1)
    )


def to_json(model_config: ml_collections.ConfigDict) -> str:
    """Return a model configuration as one line of JSON, with its fields in alphabetical order.

    `encoder` and `fourier` are left out where the encoder is SEANet, `decoder` and `vocos` where
    the decoder is: those are the fields, and the fingerprints, of checkpoints made before there
    were others.
    """
    return json.dumps(_effective(model_config.to_dict()), sort_keys=True)


def from_json(text: str) -> ml_collections.ConfigDict:
    """Return the locked model configuration that `to_json` wrote; lists become tuples.

    Raises:
      ValueError: if the text is not a JSON object, or not of a valid model configuration.
    """
    try:
        fields = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"config.model: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise rules.error("config.model", fields, "a JSON object")
    absent = {**dict.fromkeys(_NETWORKS, "seanet"), **_SECTIONS}
    fields = {**absent, **_with_tuples(fields)}
    for section in _SECTIONS:
        if isinstance(fields[section], dict):
            values = _LATER.get(section, {}) | _with_tuples(fields[section])
            fields[section] = ml_collections.ConfigDict(values)
    rules.check("config.model", fields, _MODEL_RULES)
    model_config = ml_collections.ConfigDict()
    model_config.segment_seconds = config_dict.placeholder(object)  # as in configs/base.py
    model_config.update(fields)
    validate_model(model_config)
    return model_config.lock()


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
