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
from encodec_hk import config
from encodec_hk.networks import model
from encodec_hk.pretrained import locations
from encodec_hk.system import rules
from encodec_hk.training import crops
from encodec_hk.training import run_logs
from encodec_hk.training import sound_index
from encodec_hk.training import train_state
from encodec_hk.training import train_step
from encodec_hk.training import validation_scores

STATES = "states"  # folder of the states in a run's folder


class TrainingRun:
    """A training run in a folder, new or resumed.

    Attributes:
      step: the number of steps done.
      state: the current state.
      has_codebooks: whether the codebooks were set, by k-means or from parameters; else they are
        zeros, and every sound decodes alike.
    """

    def __init__(
        self,
        variant: ml_collections.ConfigDict,
        workdir: str | os.PathLike[str],
        *,
        data: str,
        validation: str | None = None,
        params: Any = None,
        report: Callable[[str], None] = print,
    ):
        """Open a run.

        Args:
          variant: a whole configuration.
          workdir: the run's folder. If it holds states, the run resumes from the latest.
          data: a folder or glob of audio to train on.
          validation: a folder or glob of audio to validate on; if None, every 20th file of `data`
            is held out for validation.
          params: parameters to start a new run from, as in a checkpoint; if None, they are drawn.
          report: is called with lines for the user.

        Raises:
          ValueError: if the variant does not fit the devices or the states, or no audio is found.
        """
        self._variant = variant
        self._training = training = variant.training
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
        self._step = train_step.TrainStep(variant, mesh)
        self._codes: dict[int, jax.Array] = {}  # kept ones, by number of batch
        self._sources, held_out = sound_index.scan_both(data, validation)
        self._excerpts = crops.validation_excerpts(
            held_out,
            sample_rate=variant.model.sample_rate,
            channels=variant.model.channels,
            seconds=training.validation_seconds,
            count=training.validation_items,
        )
        minutes = sum(source.seconds for source in self._sources) / 60
        self._report(
            f"{len(self._sources)} files, {minutes:.1f} minutes; "
            f"{_about_validation(len(self._excerpts), training.validation_items)}"
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
        state = jax.tree.map(np.asarray, train_state.create(variant, key, params))
        self.state = jax.jit(lambda tree: tree, out_shardings=self._replicated)(state)
        if latest is not None:
            self.state = self._restore(latest)
        self.step = int(self.state.step)
        self.has_codebooks = bool(jnp.any(self.state.codebooks.entries))
        if self.step:
            self._report(f"resumed after step {self.step}")
        first, wanted = train_state.first_quantized(training), training.codebooks.first_step
        if not self.has_codebooks and first < wanted:
            self._report(
                f"codebooks begin at step {first}, a quarter of the run, instead of "
                f"config.training.codebooks.first_step={wanted}"
            )

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
        """Train up to `num_steps`, and save the state.

        Args:
          is_stopped: is called after every step. If it returns True in any process, training ends
            early.

        Returns:
          Whether all steps are done.

        Raises:
          FloatingPointError: if a step was not finite. Its batch and metrics are saved; the run can
            resume from its latest state.
        """
        training = self._training
        logs = run_logs.Logs(self._workdir, self.step) if jax.process_index() == 0 else None
        meter = run_logs.Meter(training.batch_size * train_state.crop_length(self._variant))
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
                except RuntimeError:  # the signal to stop may have ended a worker process too
                    if not is_stopped() or jax.process_count() > 1:
                        raise
                    break
                metrics = self._advance(batch)
                # One step late, so that the device is not idle while the host checks.
                self._check(pending)
                pending = (self.step, metrics, batch)
                self.step += 1
                is_last = self.step == training.num_steps
                bar.update()
                meter.add(metrics)
                if self.step % training.log_every == 0 or is_last:
                    values = meter.take(self._variant.model.sample_rate)
                    if logs is not None:
                        logs.add_row("metrics", self.step, values)
                    self._show(values, bar)
                if self.step % training.checkpoint_every == 0:
                    self._check(pending)
                    self._save()
                if self.step % training.validate_every == 0 or is_last:
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
        """Write the run's parameters as a checkpoint of this project, on the first host only.

        The source of a checkpoint without codebooks says so: see `has_codebooks`.
        """
        if not self.has_codebooks:
            source = f"{source}; its codebooks are zeros"
        if jax.process_index() == 0:
            checkpoint.save(
                path,
                jax.device_get(train_state.export(self.state, self._variant)),
                self._variant.model,
                name=self._variant.name,
                source=source,
                source_sha256="",
                licence=licence,
            )

    def close(self) -> None:
        """Finish writing states."""
        self._manager.close()

    def _advance(self, batch: np.ndarray) -> train_step.Arrays:
        """Take a step on a batch, of which this host has its part, and return the metrics."""
        training = self._training
        audio = jax.make_array_from_process_local_data(self._split, batch)
        if not self.has_codebooks and self.step >= train_state.first_quantized(training):
            self.state = self._step.initialize(self.state, audio)
            self.has_codebooks = True
        is_weighted = any(training.losses[name] for name in train_state.ADVERSARIAL)
        self.state, metrics = self._step(
            self.state,
            audio,
            quantized=self.has_codebooks,
            judged=is_weighted and self.step >= training.discriminator.first_step,
            learns=train_step.draw_learns(training, self.step),
            codes=self._kept_codes(audio),
        )
        return metrics

    def _kept_codes(self, audio: jax.Array) -> jax.Array | None:
        """Return the codes of this step's batch if they are kept; its first time computes them."""
        repeated = self._training.data.repeated_batches
        if repeated is None:
            return None
        number = self.step % repeated
        if number not in self._codes:
            self._codes[number] = self._step.encode(self.state, audio)
        return self._codes[number]

    def _batches(self) -> crops.Crops:
        training = self._training
        batches = crops.batches(
            self._sources,
            sample_rate=self._variant.model.sample_rate,
            channels=self._variant.model.channels,
            crop_length=train_state.crop_length(self._variant),
            batch_size=training.batch_size,
            seed=training.seed,
            mix_probabilities=training.data.mix_probabilities,
            gain_db=training.data.gain_db,
            num_workers=training.data.num_workers,
            num_batches=training.data.repeated_batches,
            shard_index=jax.process_index(),
            shard_count=jax.process_count(),
        )
        # A batch is a function of the seed and its number, and each step takes one.
        batches.set_state({"next_batch": self.step})
        return batches

    def _save(self) -> None:
        self._manager.save(self.step, args=ocp.args.StandardSave(self.state))

    def _check(self, pending: tuple[int, Any, np.ndarray] | None) -> None:
        """Raise FloatingPointError if a step, (number, metrics, batch), was not finite."""
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

    def _show(self, values: dict[str, float], bar: tqdm.tqdm) -> None:
        shown = {name: value for name, value in values.items() if "/" not in name or "loss" in name}
        line = ", ".join(f"{name.removeprefix('loss/')} {v:.4g}" for name, v in shown.items())
        if bar.disable:
            self._report(f"step {self.step}: {line}")
        else:
            bar.set_postfix_str(line)

    def _validate(self, logs: run_logs.Logs | None) -> None:
        if logs is None or not self._excerpts:
            return
        params = jax.device_get(train_state.export(self.state, self._variant))
        scores = validation_scores.score(self._variant, params, self._excerpts)
        logs.add_row("validation", self.step, scores.values)
        for name, audio in scores.sounds.items():
            logs.add_sound(name, self.step, audio, self._variant.model.sample_rate)
        logs.flush()
        line = ", ".join(f"{name} {value:.3f}" for name, value in scores.values.items())
        self._report(f"step {self.step}: validation: {line}")


def _about_validation(count: int, wanted: int) -> str:
    """Return how many excerpts the run is validated on, or why on none."""
    if count:
        return f"validation on {count} excerpts"
    if not wanted:
        return "no validation: config.training.validation_items is 0"
    fewest = sound_index.FEWEST_TO_HOLD_OUT
    return (
        f"no validation: fewer than {fewest} files, so none is held out; other audio can be named"
    )


def _is_true_anywhere(value: bool) -> bool:
    """Return whether a value is true in any process: all must stop after the same step."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.asarray(value)).any())


def initial_params(variant: ml_collections.ConfigDict, path: str | os.PathLike[str]) -> Any:
    """Return the parameters of a checkpoint, to start a run from.

    If the variant has another decoder than the checkpoint, there are none of the decoder: it is
    drawn.

    Raises:
      ValueError: if encoder or codebooks are of another network; the fields that differ are named.
    """
    loaded = locations.load(path)
    # Bandwidths do not change the networks.
    different = [
        (each.field == "decoder" or each.field.startswith("vocos."), each.line("the checkpoint"))
        for each in config.differences(variant.model, loaded.config, folded=True)
        if each.field != "bandwidths"
    ]
    if any(not is_of_decoder for is_of_decoder, _ in different):
        lines = "; ".join(line for _, line in different)
        raise ValueError(f"{path}: a checkpoint of another network: {lines}")
    if not model.has_encoder(loaded.params):
        raise ValueError(f"{path}: decodes only, a run needs a checkpoint with an encoder")
    params = loaded.params
    if different:
        if "decoder" in variant.training.frozen:
            allowed = f"without decoder: that of {path} is another one"
            raise rules.error("config.training.frozen", variant.training.frozen, allowed)
        params = {name: leaf for name, leaf in params.items() if name.split("/")[0] != "decoder"}
    return jax.tree.map(jnp.asarray, params)
