"""Training of a language model: in float32, then rounded as its integers will be.

Shapes: B rows, K codebooks, F frames.
"""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import safetensors
import safetensors.numpy

from encodec_hk import config
from encodec_hk.language import code_model
from encodec_hk.language import language_config
from encodec_hk.language import language_file
from encodec_hk.system import part_file
from encodec_hk.system import rules
from encodec_hk.training import language_codes
from encodec_hk.training import language_floats

_STATE = "state.safetensors"
_RULES: dict[str, rules.Rule] = {
    "seed": rules.integer(0),
    "num_steps": rules.integer(1),
    "rounded_steps": rules.integer(0),
    "batch_size": rules.integer(1),
    "crop_frames": rules.integer(1),
    "learning_rate": rules.POSITIVE,
    "warmup_steps": rules.integer(0),
    "log_every": rules.integer(1),
    "checkpoint_every": rules.integer(1),
    "validate_every": rules.integer(1),
}


def validate(variant: ml_collections.ConfigDict) -> code_model.Sizes:
    """Check the section `config.language` and return the sizes of the model.

    Raises:
      ValueError: if a field is wrong; one line names it, its value and what is allowed.
    """
    sizes = language_config.sizes(variant)
    section = variant.language.get("training")
    rules.check("config.language.training", section or {}, _RULES)
    if section.rounded_steps > section.num_steps:
        allowed = f"at most num_steps ({section.num_steps})"
        path = "config.language.training.rounded_steps"
        raise rules.error(path, section.rounded_steps, allowed)
    return sizes


class LanguageRun:
    """A run in its folder: `state.safetensors`, `metrics.csv`, `validation.csv`.

    Attributes:
      step: steps done.
      params: float parameters.
    """

    def __init__(
        self,
        variant: ml_collections.ConfigDict,
        folder: pathlib.Path,
        rows: language_codes.Rows,
        held_out: language_codes.Rows,
        report: Callable[[str], None],
    ):
        """Begin a run, or resume the one in the folder.

        Raises:
          ValueError: if the config is wrong, or the folder holds a run of another one.
        """
        self.sizes = validate(variant)
        self._settings = variant.language.training
        self._folder, self._report = folder, report
        self._rows = rows
        lengths = np.array([row.shape[1] for row in rows], np.float64)
        self._shares = lengths / lengths.sum()
        self._held_out = held_out
        self._counts = _fewer(variant.model, self.sizes)
        init, self._bits = language_floats.build(self.sizes)
        self._optimizer = optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(self._rate, b1=0.9, b2=0.99)
        )
        self.params = init(jax.random.PRNGKey(self._settings.seed))
        self._state = self._optimizer.init(self.params)
        self.step = 0
        self._recent: list[float] = []
        self._update = jax.jit(self._one, static_argnums=4, donate_argnums=(0, 1))
        self._cost = jax.jit(self._bits, static_argnums=2)
        if (folder / _STATE).is_file():
            self._resume()

    def train(self, is_stopped: Callable[[], bool]) -> bool:
        """Train to the last step; return False if stopped before. The state is saved."""
        settings = self._settings
        first_rounded = settings.num_steps - settings.rounded_steps
        while self.step < settings.num_steps and not is_stopped():
            codes, is_used = self._batch(self.step)
            self.params, self._state, bits = self._update(
                self.params, self._state, codes, is_used, self.step >= first_rounded
            )
            self.step += 1
            self._recent.append(float(bits))
            if self.step % settings.log_every == 0:
                self._log("metrics", {"bits": float(np.mean(self._recent))})
                self._recent.clear()
            if self.step % settings.validate_every == 0 or self.step == settings.num_steps:
                self._log("validation", self.validate(self.step >= first_rounded))
            if self.step % settings.checkpoint_every == 0:
                self._save()
        self._save()
        return self.step >= settings.num_steps

    def validate(self, is_rounded: bool) -> dict[str, float]:
        """Return bits per code and the share saved, of all codebooks and each, on held-out codes.

        Rows are cut as blocks of files are: every cut begins without a past.
        """
        frames = min(75, max(row.shape[1] for row in self._held_out))
        cuts = [
            row[:, first : first + frames]
            for row in self._held_out
            for first in range(0, row.shape[1], frames)
        ]
        total, count = np.zeros(self.sizes.num_codebooks), 0
        for first in range(0, len(cuts), self._settings.batch_size):
            codes, is_used = _stack(cuts[first : first + self._settings.batch_size], frames)
            bits = np.asarray(self._cost(self.params, codes, is_rounded))
            total += np.where(is_used[:, None], bits, 0).sum(axis=(0, 2))
            count += int(is_used.sum())
        mean = total / count
        plain = np.log2(self.sizes.codebook_size)
        found = {
            "bits": float(mean.mean()),
            "saved_percent": float(100 - 100 * mean.mean() / plain),
        }
        for k, bits in enumerate(mean):
            found[f"saved_percent_{k}"] = float(100 - 100 * bits / plain)
        return found

    def export(self, path: pathlib.Path, *, name: str, codec: str, licence: str) -> None:
        """Write the integers; raises ValueError if a product would not be exact."""
        params = language_floats.to_integers(self.params, self.sizes)
        source = f"trained by run.py train_language, {self.step} steps"
        model = language_file.LanguageModel(params, self.sizes, name, codec, source, licence)
        language_file.save(path, model)

    def _rate(self, step: Any) -> Any:
        settings = self._settings
        rise = jnp.minimum(1.0, (step + 1) / max(settings.warmup_steps, 1))
        fall = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(step / settings.num_steps, 1.0)))
        return settings.learning_rate * rise * (0.02 + 0.98 * fall)

    def _one(
        self, params: Any, state: Any, codes: jax.Array, is_used: jax.Array, is_rounded: bool
    ) -> tuple[Any, Any, jax.Array]:
        def loss(params: Any) -> jax.Array:
            bits = self._bits(params, codes, is_rounded)
            total = jnp.sum(jnp.where(is_used[:, None], bits, 0))
            return total / (jnp.sum(is_used) * codes.shape[1])

        bits, gradient = jax.value_and_grad(loss)(params)
        updates, state = self._optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, bits

    def _batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the crops of a step, int32 [B, K, F], and which frames there are, bool [B, F].

        Every other step has the codebooks of a low bandwidth, see `_fewer`.
        """
        settings, rng = self._settings, np.random.default_rng([self._settings.seed, step])
        count = self.sizes.num_codebooks
        if step % 2 and self._counts:
            count = int(rng.choice(self._counts))
        frames = settings.crop_frames
        crops = []
        for index in rng.choice(len(self._rows), settings.batch_size, p=self._shares):
            row = self._rows[index]
            first = int(rng.integers(max(row.shape[1] - frames, 0) + 1))
            crops.append(row[:count, first : first + frames])
        return _stack(crops, frames)

    def _log(self, table: str, values: Mapping[str, float]) -> None:
        path, row = self._folder / f"{table}.csv", {"step": self.step, **values}
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        self._report(f"step {self.step}: {table}: {shown}")

    def _save(self) -> None:
        leaves = jax.device_get(jax.tree.leaves((self.params, self._state)))
        tensors = {f"leaf_{index}": np.asarray(leaf) for index, leaf in enumerate(leaves)}
        metadata = {"step": str(self.step), "config": self._config()}
        data = safetensors.numpy.save(tensors, metadata=metadata)
        part_file.write(self._folder / _STATE, data)

    def _resume(self) -> None:
        path = self._folder / _STATE
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                metadata = dict(file.metadata() or {})
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError) as error:
            raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
        if metadata.get("config") != self._config():
            raise ValueError(f"{path}: a run of another config.language, take another --workdir")
        leaves, tree = jax.tree.flatten((self.params, self._state))
        found = [jnp.asarray(tensors[f"leaf_{index}"]) for index in range(len(leaves))]
        self.params, self._state = jax.tree.unflatten(tree, found)
        self.step = int(metadata["step"])

    def _config(self) -> str:
        """Return what a run must keep: all but how long it is and how often it logs."""
        kept = {
            name: self._settings[name] for name in _RULES if not name.endswith(("_every", "_steps"))
        }
        return repr((self.sizes._asdict(), kept))


def _fewer(model: ml_collections.ConfigDict, sizes: code_model.Sizes) -> list[int]:
    """Return the codebooks of the bandwidths at which the model sees less of earlier frames.

    At the others, the first codes cost what they cost with all codebooks.
    """
    counts = {config.num_codebooks_for(model, bandwidth) for bandwidth in model.bandwidths}
    return sorted(count for count in counts if count < sizes.num_tables)


def _stack(crops: list[np.ndarray], frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad crops [K, F] to one array int32 [B, K, frames]; return which frames there are too."""
    codes = np.zeros((len(crops), len(crops[0]), frames), np.int32)
    is_used = np.zeros((len(crops), frames), bool)
    for row, crop in enumerate(crops):
        codes[row, :, : crop.shape[1]] = crop
        is_used[row, : crop.shape[1]] = True
    return codes, is_used


def hold_out(rows: language_codes.Rows) -> tuple[language_codes.Rows, language_codes.Rows]:
    """Return rows to train on and, for want of a folder of their own, a twentieth held out."""
    every = max(2, min(20, len(rows)))
    if len(rows) < 2:
        return rows, rows
    held = rows[every - 1 :: every]
    return [row for index, row in enumerate(rows) if index % every != every - 1], held
