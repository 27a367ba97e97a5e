"""`run.py train`: train a variant, from random weights or a checkpoint, or resume a run."""

from __future__ import annotations

import contextlib
import fcntl
import json
import pathlib
import re
import sys
from collections.abc import Iterator

import jax
import ml_collections
import tqdm

from encodec_hk import config
from encodec_hk.system import extras
from encodec_hk.system import interruption
from encodec_hk.system import invocation
from encodec_hk.system import part_file
from encodec_hk.system import rules

_INTERRUPTED = 130  # exit status
_CONFIG = "config.json"
_LOCK = ".lock"


def run(
    variant: ml_collections.ConfigDict,
    *,
    data: str | None,
    workdir: str | None,
    validation: str | None = None,
    init: str | None = None,
    licence: str | None = None,
    distributed: str | None = None,
) -> int:
    """Train, and write the checkpoint WORKDIR/NAME.safetensors.

    Args:
      variant: a whole configuration.
      data: a folder or glob of audio to train on.
      workdir: the run's folder, created if missing. If it holds a run, that run is resumed.
      validation: a folder or glob of audio to validate on; None holds out a twentieth of `data`.
      init: a checkpoint to start a new run from, as `encodec_hk.load` takes it.
      licence: of the weights, for the checkpoint.
      distributed: for one of several processes, "HOST:PORT,INDEX,COUNT" or "auto"; see
        `jax.distributed.initialize`.

    Returns:
      The exit status: 0, or 130 if interrupted; the state is saved in both cases.

    Raises:
      ValueError: if an argument or the audio is wrong, or a step was not finite.
    """
    if not data or not workdir:
        raise ValueError("train: needs --data and --workdir")
    if distributed:
        _join(distributed)
    for package in ("grain", "optax", "orbax.checkpoint", "tensorboardX"):
        extras.require(package, "train")
    # Imported here, so that a missing package is reported in one line.
    from encodec_hk.training import loop
    from encodec_hk.training import train_state
    from encodec_hk.training import training_config

    training_config.validate(variant)
    folder = pathlib.Path(workdir).expanduser()
    _check_network(variant, folder)
    frozen = variant.training.frozen
    if frozen and init is None and not (folder / _CONFIG).exists():
        allowed = "() in a new run without a checkpoint (--init)"
        raise rules.error("config.training.frozen", frozen, allowed)
    params = None if init is None else loop.initial_params(variant, init)
    interruption.postpone()
    with _locked(folder):
        training = loop.TrainingRun(
            variant, folder, data=data, validation=validation, params=params, report=_report
        )
        try:
            _write_config(variant, folder)
            is_done = training.train(is_stopped=interruption.is_requested)
            path = folder / f"{variant.name}.safetensors"
            training.export(
                path,
                source=f"trained by run.py train, {training.step} steps",
                licence=licence or "",
            )
        except FloatingPointError as error:
            raise ValueError(str(error)) from error
        finally:
            training.close()
    _report(f"{path}: after {training.step} of {variant.training.num_steps} steps")
    if not training.has_codebooks and jax.process_index() == 0:
        first = train_state.first_quantized(variant.training)
        print(
            f"{invocation.name()}: {path}: warning: its codebooks are zeros, so every sound "
            f"decodes alike; training sets them at step {first}",
            file=sys.stderr,
        )
    if not is_done:
        _report("interrupted; run the same command to resume")
        return _INTERRUPTED
    return 0


def _join(distributed: str) -> None:
    """Join the other processes of a distributed run."""
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


def _check_network(variant: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
    """Raise ValueError if the folder holds a run of another network."""
    path = folder / _CONFIG
    if not path.exists():
        return
    try:
        kept = dict(json.loads(path.read_text())["model"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: is not the configuration of a run") from error
    different = [each.line("the run") for each in config.differences(variant.model, kept)]
    if different:
        raise ValueError(f"{folder}: a run of another network: {'; '.join(different)}")


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Keep other runs out of the folder for a context; if no run begins there, leave no new folder.

    Raises:
      ValueError: if another process has the lock. Of the processes of a distributed run, only the
        first takes it.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / _LOCK
    with lock.open("a") as file:
        if jax.process_index() == 0:
            try:
                # Unlike flock's, this lock is not inherited by the processes that read data, which
                # may outlive this process for a moment.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ValueError(f"{folder}: another process trains there ({error})") from error
        try:
            yield
        finally:
            if is_new and jax.process_index() == 0:
                with contextlib.suppress(OSError):  # another process may have just come
                    if [path.name for path in folder.iterdir()] == [_LOCK]:
                        lock.unlink()
                        folder.rmdir()


def _write_config(variant: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
    if jax.process_index() == 0:
        text = json.dumps(json.loads(variant.to_json_best_effort()), indent=2)
        part_file.write(folder / _CONFIG, f"{text}\n".encode())


def _report(line: str) -> None:
    if jax.process_index() != 0:
        return
    if sys.stderr.isatty():
        tqdm.tqdm.write(line)  # above the bar
    else:
        print(line, flush=True)
