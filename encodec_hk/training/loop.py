"""The training run: batches in, checkpoints and logs out."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
import tqdm
from jax.experimental import multihost_utils

from encodec_hk import checkpoint
from encodec_hk import config as config_lib
from encodec_hk.training import crops
from encodec_hk.training import held_out
from encodec_hk.training import run_logs
from encodec_hk.training import sound_index
from encodec_hk.training import train_state
from encodec_hk.training import train_step

STATES = "states"  # folder of a run's states
_HOLD_OUT = 20  # without a validation set, one file in so many is held out


class TrainingRun:
    """A training run in a folder, new or to be gone on with.

    Attributes:
      step: steps done.
      state: what the run carries.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        workdir: str | os.PathLike[str],
        *,
        data: str,
        validation: str | None = None,
        params: Any = None,
        report: Callable[[str], None] = print,
    ):
        """Opens a run.

        Args:
          config: a whole config.
          workdir: the run's folder. If it holds states, the run goes on from the latest.
          data: a folder or glob of audio to train on.
          validation: a folder or glob of audio to validate on; None leaves every 20th file of
            `data` out of training for it.
          params: parameters of the networks to start a new run from; None draws them.
          report: takes lines for the user.

        Raises:
          ValueError: the config does not fit the devices, or no audio is found.
        """
        self._config = config
        self._training = training = config.training
        self._workdir = pathlib.Path(workdir).expanduser().resolve()
        self._report = report if jax.process_index() == 0 else lambda line: None
        devices = jax.device_count()
        if training.batch_size % devices:
            raise ValueError(
                f"config.training.batch_size: got {training.batch_size}, must be a multiple of "
                f"{devices} (devices)"
            )
        mesh = jax.make_mesh(
            (devices,), (train_step.AXIS,), axis_types=(jax.sharding.AxisType.Auto,)
        )
        self._replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        self._split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(train_step.AXIS))
        self._step = train_step.Step(config, mesh)
        self._sources, held_out = _split(data, validation)
        self._items = crops.validation_items(
            held_out,
            sample_rate=config.model.sample_rate,
            channels=config.model.channels,
            seconds=training.validation_seconds,
            count=training.validation_items,
        )
        minutes = sum(source.seconds for source in self._sources) / 60
        self._report(
            f"{len(self._sources)} files, {minutes:.1f} minutes; validation on "
            f"{len(self._items)} excerpts"
        )

        self._workdir.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self._workdir / STATES,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=training.num_checkpoints, cleanup_tmp_directories=True
            ),
        )
        latest = self._manager.latest_step()
        key = jax.random.key(training.seed)
        state = jax.tree.map(np.asarray, train_state.create(config, key, params))
        self.state = jax.jit(lambda tree: tree, out_shardings=self._replicated)(state)
        if latest is not None:
            self.state = self._restore(latest)
        self.step = int(self.state.step)
        self._has_codebooks = bool(jnp.any(self.state.codebooks.entries))
        if self.step:
            self._report(f"goes on after step {self.step}")

    def _restore(self, step: int) -> train_state.TrainState:
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._replicated),
            self.state,
        )
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except ValueError as error:
            raise ValueError(
                f"{self._workdir}: the run's state does not fit the config: "
                f"{str(error).splitlines()[0]}"
            ) from error

    def train(self, *, is_stopped: Callable[[], bool] = lambda: False) -> bool:
        """Trains up to `num_steps`, and saves the state.

        Args:
          is_stopped: asked after every step; True, in any process, saves the state and ends the
            training.

        Returns:
          Whether all steps are done.

        Raises:
          FloatingPointError: a step was not finite. Its batch and metrics are saved; the run can go
            on from its latest state.
        """
        training = self._training
        logs = run_logs.Logs(self._workdir, self.step) if jax.process_index() == 0 else None
        meter = run_logs.Meter(training.batch_size * train_state.crop_length(self._config))
        pending: tuple[int, Any, np.ndarray] | None = None
        bar = tqdm.tqdm(
            total=training.num_steps,
            initial=self.step,
            unit="step",
            disable=None if jax.process_index() == 0 else True,
        )
        batches = self._batches()
        try:
            while self.step < training.num_steps:
                try:
                    batch = next(batches)
                except RuntimeError:  # what asked this process to stop has ended a worker
                    if not is_stopped() or jax.process_count() > 1:
                        raise
                    break
                audio = jax.make_array_from_process_local_data(self._split, batch)
                if not self._has_codebooks and self.step >= training.codebooks.first_step:
                    self.state = self._step.initialize(self.state, audio)
                    self._has_codebooks = True
                self.state, metrics = self._step(
                    self.state,
                    audio,
                    quantized=self._has_codebooks,
                    judged=self._is_judged(),
                    learns=train_step.draw_learns(training, self.step),
                )
                # One step late, so that the device has work while the host looks.
                self._check(pending)
                pending = (self.step, metrics, batch)
                self.step += 1
                bar.update()
                meter.add(metrics)
                if self.step % training.log_every == 0 or self.step == training.num_steps:
                    values = meter.take(self._config.model.sample_rate)
                    if logs is not None:
                        logs.scalars("metrics", self.step, values)
                    self._tell(values, bar)
                if self.step % training.checkpoint_every == 0:
                    self._check(pending)
                    self._save()
                if self.step % training.validate_every == 0 or self.step == training.num_steps:
                    self._validate(logs)
                    meter.restart()
                if _is_true_anywhere(is_stopped()):
                    break
            self._check(pending)
            if self._manager.latest_step() != self.step:
                self._save()
        finally:
            bar.close()
            batches.close()
            if logs is not None:
                logs.close()
        self._manager.wait_until_finished()
        return self.step >= training.num_steps

    def export(self, path: str | os.PathLike[str], *, source: str, licence: str) -> None:
        """Writes the run's parameters as a checkpoint of the project; on the first host alone."""
        if jax.process_index() == 0:
            checkpoint.save(
                path,
                jax.device_get(train_state.export(self.state, self._config)),
                self._config.model,
                name=self._config.name,
                source=source,
                source_sha256="",
                licence=licence,
            )

    def close(self) -> None:
        """Ends what is still being written."""
        self._manager.close()

    def _is_judged(self) -> bool:
        losses = self._training.losses
        is_weighted = any(losses[name] for name in train_state.ADVERSARIAL)
        return is_weighted and self.step >= self._training.discriminator.first_step

    def _batches(self) -> crops.Crops:
        training = self._training
        batches = crops.crops(
            self._sources,
            sample_rate=self._config.model.sample_rate,
            channels=self._config.model.channels,
            crop_length=train_state.crop_length(self._config),
            batch_size=training.batch_size,
            seed=training.seed,
            mix_probabilities=training.data.mix_probabilities,
            gain_db=training.data.gain_db,
            num_workers=training.data.num_workers,
            shard_index=jax.process_index(),
            shard_count=jax.process_count(),
        )
        # A batch is a function of the seed and its number, so the step is the data's position.
        batches.set_state({"next_batch": self.step})
        return batches

    def _save(self) -> None:
        self._manager.save(self.step, args=ocp.args.StandardSave(self.state))

    def _check(self, pending: tuple[int, Any, np.ndarray] | None) -> None:
        """Stops where a step was not finite."""
        if pending is None or bool(pending[1]["is_finite"]):
            return
        step, metrics, batch = pending
        path = self._workdir / f"not_finite_step_{step}_host_{jax.process_index()}.npz"
        values = {name: np.asarray(value) for name, value in metrics.items()}
        arrays: dict[str, Any] = {name.replace("/", "_"): value for name, value in values.items()}
        np.savez(path, audio=batch, **arrays)
        wrong = [name for name, value in values.items() if not np.isfinite(value).all()]
        raise FloatingPointError(
            f"step {step}: {', '.join(sorted(wrong)) or 'a parameter'} is not finite; batch and "
            f"values: {path}"
        )

    def _tell(self, values: dict[str, float], bar: tqdm.tqdm) -> None:
        shown = {name: value for name, value in values.items() if "/" not in name or "loss" in name}
        line = ", ".join(f"{name.removeprefix('loss/')} {v:.4g}" for name, v in shown.items())
        if bar.disable:
            self._report(f"step {self.step}: {line}")
        else:
            bar.set_postfix_str(line)

    def _validate(self, logs: run_logs.Logs | None) -> None:
        if logs is None or not self._items:
            return
        params = jax.device_get(train_state.export(self.state, self._config))
        result = held_out.validate(self._config, params, self._items)
        logs.scalars("validation", self.step, result.values)
        for name, audio in result.sounds.items():
            logs.sound(name, self.step, audio, self._config.model.sample_rate)
        logs.flush()
        line = ", ".join(f"{name} {value:.3f}" for name, value in result.values.items())
        self._report(f"step {self.step}: validation: {line}")


def _split(
    data: str, validation: str | None
) -> tuple[list[sound_index.SoundFile], list[sound_index.SoundFile]]:
    """The files to train on and those to validate on."""
    sources = sound_index.find(data)
    if validation is not None:
        return sources, sound_index.find(validation)
    held_out = sources[_HOLD_OUT // 2 :: _HOLD_OUT]
    del sources[_HOLD_OUT // 2 :: _HOLD_OUT]
    return sources, held_out


def _is_true_anywhere(value: bool) -> bool:
    """Whether a value is true in any process: all of them have to leave at the same step."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.asarray(value)).any())


def initial_params(config: ml_collections.ConfigDict, path: str | os.PathLike[str]) -> Any:
    """Parameters of a checkpoint to start from.

    Raises:
      ValueError: the checkpoint is of another network; the fields that differ are named.
    """
    loaded = checkpoint.load(path)
    wanted, found = config.model.to_dict(), loaded.config.to_dict()
    ignored = ["bandwidths"]
    if "time_group_norm" not in (found["norm"], wanted["norm"]):
        ignored.append("norm")  # the others are the same network
    different = [
        f"{name} {found[name]} (config: {wanted[name]})"
        for name in wanted
        if found[name] != wanted[name] and name not in ignored
    ]
    if different:
        raise ValueError(f"{path}: does not fit the config: {', '.join(different)}")
    config_lib.validate_model(loaded.config)
    return jax.tree.map(jnp.asarray, loaded.params)
