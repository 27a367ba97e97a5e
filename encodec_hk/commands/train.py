"""`run.py train`: trains a variant, new, from a checkpoint, or from where it stopped."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import re
import sys
from typing import IO

import jax
import ml_collections

from encodec_hk.system import extras
from encodec_hk.system import interruption
from encodec_hk.system import rules

INTERRUPTED = 130
_CONFIG = "config.json"
_LOCK = ".lock"


def run(
    config: ml_collections.ConfigDict,
    *,
    data: str | None,
    workdir: str | None,
    validation: str | None = None,
    init: str | None = None,
    licence: str | None = None,
    distributed: str | None = None,
) -> int:
    """Trains, and writes the checkpoint WORKDIR/NAME.safetensors.

    Args:
      config: a whole configuration.
      data: a folder, or a glob, of the audio to train on.
      workdir: the run's folder, made where it is missing. If it holds a run, the run goes on.
      validation: a folder, or a glob, of audio to validate on; by default a twentieth of `data`.
      init: a checkpoint of ours to start a new run from.
      licence: of the weights, for the checkpoint.
      distributed: where this is one of several processes, "HOST:PORT,INDEX,COUNT" or "auto"; see
        `jax.distributed.initialize`.

    Returns:
      The exit status: 0, or 130 where it was interrupted; then the state is saved.

    Raises:
      ValueError: with a line for run.py to print.
    """
    if not data or not workdir:
        raise ValueError("train: needs --data and --workdir")
    if distributed:
        _join(distributed)
    for package in ("grain", "optax", "orbax.checkpoint", "tensorboardX"):
        extras.require(package, "train")
    # Imported here, so that a missing package is a line and not a traceback.
    from encodec_hk.training import loop
    from encodec_hk.training import recipe

    recipe.validate(config)
    folder = pathlib.Path(workdir).expanduser()
    _check_network(config, folder)
    frozen = config.training.frozen
    if frozen and init is None and not (folder / _CONFIG).exists():
        allowed = "() in a run that starts without a checkpoint (--init)"
        raise rules.error("config.training.frozen", frozen, allowed)
    params = None if init is None else loop.initial_params(config, init)
    interruption.postpone()
    lock = _lock(folder)
    training = loop.TrainingRun(
        config, folder, data=data, validation=validation, params=params, report=_report
    )
    try:
        _keep_config(config, folder)
        is_done = training.train(is_stopped=interruption.is_requested)
        path = folder / f"{config.name}.safetensors"
        training.export(
            path,
            source=f"trained by run.py train, {training.step} steps",
            licence=licence or "",
        )
    except FloatingPointError as error:
        raise ValueError(str(error)) from error
    finally:
        training.close()
        lock.close()
    _report(f"{path}: after {training.step} of {config.training.num_steps} steps")
    if not is_done:
        _report("interrupted; the same command goes on")
        return INTERRUPTED
    return 0


def _join(distributed: str) -> None:
    """Makes this process one of several."""
    found = re.fullmatch(r"(\S+:\d+),(\d+),(\d+)", distributed)
    if distributed != "auto" and not (found and int(found[2]) < int(found[3])):
        raise ValueError(
            f"distributed: got {distributed!r}, must be auto or HOST:PORT,INDEX,COUNT, the "
            "index from 0 to COUNT - 1"
        )
    try:
        if found:
            jax.distributed.initialize(
                found[1], num_processes=int(found[3]), process_id=int(found[2])
            )
        else:
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"distributed: got {distributed!r}: {error}") from error


def _check_network(config: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
    """Raises ValueError where the folder holds a run of another network."""
    path = folder / _CONFIG
    if not path.exists():
        return
    try:
        kept = json.loads(path.read_text())["model"]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: is not the configuration of a run") from error
    given = json.loads(config.to_json_best_effort())["model"]
    different = [
        f"config.model.{name}: got {given[name]}, the run has {kept.get(name)}"
        for name in given
        if given[name] != kept.get(name)
    ]
    if different:
        raise ValueError(f"{folder}: a run of another network: {'; '.join(different)}")


def _lock(folder: pathlib.Path) -> IO[str]:
    """Keeps other runs out of the folder for as long as this process lives or the file is open.

    Raises:
      ValueError: another process has it. Those of one distributed run leave it to the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / _LOCK).open("a")
    if jax.process_index() == 0:
        try:
            # Unlike flock's, such a lock is not inherited by the processes that read data, which
            # may outlive this one for a moment.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise ValueError(f"{folder}: another process trains there ({error})") from error
    return file


def _keep_config(config: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
    """Writes the config into the run's folder; whole, or not at all."""
    if jax.process_index() == 0:
        text = json.dumps(json.loads(config.to_json_best_effort()), indent=2)
        partial = folder / f".{_CONFIG}.part"
        partial.write_text(text + "\n")
        os.replace(partial, folder / _CONFIG)


def _report(line: str) -> None:
    if jax.process_index() != 0:
        return
    if sys.stderr.isatty():
        import tqdm

        tqdm.tqdm.write(line)
    else:
        print(line, flush=True)
