"""Validate the section `training` of a configuration; `configs/base.py` documents the fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_collections

from encodec_hk import config
from encodec_hk.system import rules
from encodec_hk.training import stft_discriminator
from encodec_hk.training import train_state

_SECTION: rules.Rule = ("a ConfigDict", lambda value: isinstance(value, ml_collections.ConfigDict))
_WINDOWS = rules.tuple_of(
    "multiples of 4 (samples)", lambda value: rules.is_int(value, 4) and value % 4 == 0
)
_DIFFERENT_WINDOWS: rules.Rule = (
    "a tuple of one or more different multiples of 4 (samples)",
    lambda value: _WINDOWS[1](value) and len(set(value)) == len(value),
)
_NUM_MELS: rules.Rule = (
    "a whole number of at least 1, or a tuple of one for each of mel_windows",
    lambda value: (
        rules.is_int(value, 1)
        or (isinstance(value, tuple) and all(rules.is_int(each, 1) for each in value))
    ),
)
_FROZEN: rules.Rule = (
    f"a tuple of different names of {', '.join(train_state.FREEZABLE)}",
    lambda value: (
        isinstance(value, tuple)
        and all(name in train_state.FREEZABLE for name in value)
        and len(set(value)) == len(value)
    ),
)
_PROBABILITIES: rules.Rule = (
    "a tuple of three numbers that add up to 1",
    lambda value: _is_tuple(value, 3, rules.SHARE[1]) and abs(sum(value) - 1) < 1e-6,
)


def _is_tuple(value: Any, length: int, accepts: Callable[[Any], bool]) -> bool:
    return isinstance(value, tuple) and len(value) == length and all(map(accepts, value))


def _two(words: str, accepts: Callable[[Any], bool]) -> rules.Rule:
    return f"a tuple of two {words}", lambda value: _is_tuple(value, 2, accepts)


_RULES: dict[str, rules.Rule] = {
    "seed": rules.integer(0),
    "num_steps": rules.integer(1),
    "batch_size": rules.integer(1),
    "crop_seconds": rules.POSITIVE,
    "dtype": rules.one_of("float32", "bfloat16"),
    "precision": rules.one_of("float32", "tensorfloat32"),
    "learning_rate": rules.POSITIVE,
    "adam_betas": _two("numbers in [0, 1)", rules.DECAY[1]),
    "schedule": rules.one_of("constant", "cosine"),
    "warmup_steps": rules.integer(0),
    "max_gradient_norm": rules.optional(rules.POSITIVE),
    "frozen": _FROZEN,
    "average_decay": rules.DECAY,
    "pre_emphasis": rules.SHARE,
    "mel_windows": _WINDOWS,
    "num_mels": _NUM_MELS,
    "mel_exponent": rules.optional(rules.NOT_NEGATIVE),
    "mel_floor": rules.POSITIVE,
    "stft_windows": _WINDOWS,
    "stft_floor": rules.POSITIVE,
    "bandwidth_per": rules.one_of("batch", "crop"),
    "log_every": rules.integer(1),
    "checkpoint_every": rules.integer(1),
    "num_checkpoints": rules.integer(1),
    "validate_every": rules.integer(1),
    "validation_items": rules.integer(0),
    "validation_seconds": rules.POSITIVE,
}
_SECTIONS: dict[str, dict[str, rules.Rule]] = {
    "losses": dict.fromkeys((*train_state.BALANCED, "commitment"), rules.NOT_NEGATIVE),
    "balancer": {"enabled": rules.BOOL, "decay": rules.DECAY},
    "codebooks": {
        "decay": rules.DECAY,
        "first_step": rules.integer(0),
        "kmeans_iterations": rules.integer(0),
        "restart_below": rules.NOT_NEGATIVE,
    },
    "discriminator": {
        "num_filters": rules.integer(1),
        "windows": _DIFFERENT_WINDOWS,
        "init": rules.one_of(*stft_discriminator.INITS),
        "learning_rate": rules.optional(rules.POSITIVE),
        "first_step": rules.integer(0),
        "update_probability": rules.SHARE,
    },
    "data": {
        "mix_probabilities": _PROBABILITIES,
        "gain_db": _two("numbers (dB)", rules.is_number),
        "repeated_batches": rules.optional(rules.integer(1)),
        "num_workers": rules.integer(0),
    },
}


_RULES |= dict.fromkeys(_SECTIONS, _SECTION)


def validate(variant: ml_collections.ConfigDict) -> None:
    """Check a whole configuration, with its section `training`.

    Raises:
      ValueError: if a field is wrong; one line names it, its value and what is allowed.
    """
    config.validate(variant)
    rules.check("config", variant, {"training": _SECTION}, others_allowed=True)
    training, path = variant.training, "config.training"
    rules.check(path, training, _RULES)
    for name, section in _SECTIONS.items():
        rules.check(f"{path}.{name}", training[name], section)

    weighted = {name for name in train_state.BALANCED if training.losses[name]}
    if not weighted:
        raise ValueError(
            f"{path}.losses: got weights of 0, must have one above 0 for a loss of the output"
        )
    first_step = training.discriminator.first_step
    if first_step and weighted <= set(train_state.ADVERSARIAL):
        allowed = "0 if no other loss of the output has a weight above 0"
        raise rules.error(f"{path}.discriminator.first_step", first_step, allowed)
    if {"encoder", "decoder"} <= set(training.frozen):
        allowed = "without encoder or without decoder: one of them must train"
        raise rules.error(f"{path}.frozen", training.frozen, allowed)
    if isinstance(training.num_mels, tuple) and len(training.num_mels) != len(training.mel_windows):
        raise rules.error(f"{path}.num_mels", training.num_mels, _NUM_MELS[0])
    repeated = training.data.repeated_batches
    if repeated is not None and not {"encoder", "quantizer"} <= set(training.frozen):
        allowed = "None unless encoder and quantizer are frozen"
        raise rules.error(f"{path}.data.repeated_batches", repeated, allowed)
    low, high = training.data.gain_db
    if low > high:
        raise rules.error(f"{path}.data.gain_db", training.data.gain_db, "the lower gain first")

    length = train_state.crop_length(variant)
    windows = [*training.mel_windows, *training.discriminator.windows]
    if training.losses.stft:
        windows += training.stft_windows
    longest = max(windows)
    if length < longest:
        allowed = f"at least the longest window ({longest / variant.model.sample_rate:.6g} s)"
        raise rules.error(f"{path}.crop_seconds", training.crop_seconds, allowed)
    segment = config.segment_length(variant.model)
    if segment is not None and length > segment:
        allowed = f"at most one segment ({variant.model.segment_seconds} s)"
        raise rules.error(f"{path}.crop_seconds", training.crop_seconds, allowed)
