"""What `run.py evaluate` evaluates: models of ours, and the baselines for them."""

from __future__ import annotations

import collections
import functools
import pathlib
import runpy
from collections.abc import Sequence

import ml_collections

import encodec_hk
from encodec_hk import bitstream
from encodec_hk import config
from encodec_hk.commands import checkpoints
from encodec_hk.evaluation import baseline_coder
from encodec_hk.evaluation import model_coder
from encodec_hk.system import file_paths
from encodec_hk.transcode import ecdc


def parse_rates(bandwidths: Sequence[str] | None) -> tuple[float, ...] | None:
    """The kbps of --bandwidths, each once; None where there are none."""
    if not bandwidths:
        return None
    try:
        rates = [float(text) for text in bandwidths]
    except ValueError:
        rates = []
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        got = ",".join(map(str, bandwidths))
        raise ValueError(f"--bandwidths: got {got}, must be kbps with commas between: 1.5,3,6")
    return tuple(dict.fromkeys(rates))


def check_baselines(kinds: Sequence[str]) -> None:
    """Raises ValueError where one is no baseline."""
    for kind in kinds:
        if kind and kind not in baseline_coder.KINDS:
            allowed = ", ".join(baseline_coder.KINDS)
            raise ValueError(f"--baselines: got {kind!r}, must be of {allowed}, or empty for none")


def check_compared(kinds: Sequence[str]) -> None:
    """Raises ValueError where codes cannot be held against those of one."""
    for kind in kinds:
        if kind != "transformers":
            raise ValueError(f"--compare: got {kind!r}, must be transformers, or empty for none")


def load(
    config: ml_collections.ConfigDict | None,
    more_configs: Sequence[str],
    checkpoint: str | None,
    rates: Sequence[float] | None,
) -> list[model_coder.ModelCoder]:
    """Loads the models.

    Args:
      config: of the first; None for what the checkpoints say.
      more_configs: files of those of the others.
      checkpoint: files of weights with commas between: one for every configuration, in their order,
        or any number for one configuration or none. None for the configurations' own.
      rates: kbps; None for those of each model.

    Raises:
      ValueError: the numbers of both differ, one cannot be loaded, or no model has one of the
        rates.
    """
    configs = [config, *map(_read_config, more_configs)]
    paths: list[str | None] = [*checkpoint.split(",")] if checkpoint else [None] * len(configs)
    if len(configs) == 1:
        configs *= len(paths)
    if len(configs) != len(paths):
        raise ValueError(
            f"--checkpoint: got {len(paths)} files, --config has {len(configs)}: must be as many"
        )
    codecs = [checkpoints.load_codec(each, path) for each, path in zip(configs, paths, strict=True)]
    used = [
        path or (each.checkpoint if each is not None else "")
        for each, path in zip(configs, paths, strict=True)
    ]
    return [
        model_coder.ModelCoder(
            codec,
            _rates_of(codec, codecs, rates),
            functools.partial(_header, codec),
            name=name,
            checkpoint=path,
        )
        for codec, name, path in zip(codecs, _names(codecs, used), used, strict=True)
    ]


def baselines_of(
    models: Sequence[model_coder.ModelCoder], kinds: Sequence[str], rates: Sequence[float] | None
) -> tuple[list[baseline_coder.Baseline], list[str]]:
    """The baselines of each sample rate and number of channels that models have.

    Args:
      models: what they are compared with.
      kinds: of `baselines.KINDS`.
      rates: kbps that were asked for; None for those of the models.

    Returns:
      The baselines, and a line for each that cannot be had.
    """
    forms: dict[tuple[int, int], list[float]] = collections.defaultdict(list)
    for model in models:
        forms[model.sample_rate, model.channels] += model.rates
    found, missing = [], []
    for kind in dict.fromkeys(filter(None, kinds)):
        for (sample_rate, channels), offered in forms.items():
            name = f"{kind} {sample_rate / 1000:g} kHz" if len(forms) > 1 else kind
            if [rate for rate, _ in forms].count(sample_rate) > 1:
                name += f" x{channels}"
            try:
                baseline = baseline_coder.Baseline(
                    kind, sample_rate, channels, rates or offered, name
                )
            except ValueError as error:
                missing.append(str(error))
            else:
                found.append(baseline)
    return found, list(dict.fromkeys(missing))


def _read_config(path: str) -> ml_collections.ConfigDict:
    """The configuration of a file."""
    try:
        return runpy.run_path(path)["get_config"]()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"--config: {file_paths.shown(path)}: {reason}") from error


def _rates_of(
    codec: encodec_hk.Codec, codecs: Sequence[encodec_hk.Codec], rates: Sequence[float] | None
) -> list[float]:
    """The rates of a codec: of those asked for, what it has; one that none has is an error."""
    if rates is None:
        return list(codec.model_config.bandwidths)
    found = []
    for rate in rates:
        if _has(codec, rate):
            found.append(rate)
        elif not any(_has(other, rate) for other in codecs):
            config.num_codebooks_for(codec.model_config, rate, field="--bandwidths")
    if not found:
        allowed = ", ".join(f"{rate:g}" for rate in codec.model_config.bandwidths)
        got = ", ".join(f"{rate:g}" for rate in rates)
        raise ValueError(f"--bandwidths: got {got}, {codec.name} has none of them but {allowed}")
    return found


def _has(codec: encodec_hk.Codec, rate: float) -> bool:
    try:
        config.num_codebooks_for(codec.model_config, rate)
    except ValueError:
        return False
    return True


def _names(codecs: Sequence[encodec_hk.Codec], paths: Sequence[str]) -> list[str]:
    """A name for each: the variant's; of several of one, with the checkpoint's."""
    names = [codec.name for codec in codecs]
    stems = [
        f"{name} ({pathlib.Path(path).stem})" if names.count(name) > 1 else name
        for name, path in zip(names, paths, strict=True)
    ]
    return [
        f"{stem} #{stems[: index + 1].count(stem)}" if stems.count(stem) > 1 else stem
        for index, stem in enumerate(stems)
    ]


def _header(codec: encodec_hk.Codec, count: int, num_samples: int) -> bitstream.Header:
    return ecdc.header(codec, count, num_samples, ecdc.default_version(codec))
