"""A data set to make: its input, settings, plan and files."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import os
import pathlib
from typing import Any

import pyarrow as pa
import soundfile

import encodec_hk
from encodec_hk import config
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.system import part_file
from encodec_hk.tokens import av_sounds
from encodec_hk.tokens import dataset_card
from encodec_hk.tokens import item_search
from encodec_hk.tokens import schema
from encodec_hk.tokens import shard_files
from encodec_hk.tokens import shard_plan
from encodec_hk.tokens import shard_work
from encodec_hk.tokens import sound_sources
from encodec_hk.tokens import tokenizer

_MOST_CODES = 2**15  # int16
_PACKAGES = ("jax", "numpy", "pyarrow", "soxr")  # that decide codes and files


@dataclasses.dataclass(frozen=True)
class TokenizeOptions:
    """How to make a data set of codes.

    Attributes:
      bandwidth: kbps; None for the codec's default.
      num_codebooks: the bandwidth as a number of codebooks; one of both is None.
      channels: a name of `sound_sources.POLICIES`.
      min_seconds, max_seconds: items outside are skipped; None for any length.
      row_seconds: length of a row, to which codes are cut; None for whole items.
      keep: fields of the input to keep as columns.
      shard_hours: of audio in a shard, about.
      decoder: a name of `sound_sources.DECODERS`.

    Raises:
      ValueError: if a value is not allowed.
    """

    bandwidth: float | None = None
    num_codebooks: int | None = None
    channels: str = "mean"
    min_seconds: float | None = None
    max_seconds: float | None = None
    row_seconds: float | None = None
    keep: tuple[str, ...] = ()
    shard_hours: float = 10.0
    decoder: str = "soundfile"

    def __post_init__(self) -> None:
        for name, names in (
            ("channels", sound_sources.POLICIES),
            ("decoder", sound_sources.DECODERS),
        ):
            value = getattr(self, name)
            if value not in names:
                raise ValueError(f"--{name}: got {value!r}, must be one of {', '.join(names)}")
        for name in ("min_seconds", "max_seconds", "row_seconds", "shard_hours"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"--{name}: got {value:g}, must be a number above 0")
        if len(set(self.keep)) < len(self.keep):
            raise ValueError(f"--keep: got {','.join(self.keep)}, must be different names")
        for name in self.keep:
            if not name or name in schema.COLUMNS:
                raise ValueError(f"--keep: got {name!r}, must be a name but those of other columns")
        if self.decoder == "av":
            av_sounds.pyav()


class TokenizeJob:
    """A data set in the making.

    Attributes:
      plan: which items are in which shard.
      files: of the shards.
      unreadable: "FOLDER: REASON" for each folder of the input that could not be searched.
    """

    def __init__(
        self,
        codec: encodec_hk.Codec,
        inputs: str,
        output: str,
        options: TokenizeOptions,
        *,
        licence: str = "",
        extend: bool = False,
    ):
        """Find the input, and make the plan or go on with the one that is there.

        Args:
          codec: the codec.
          inputs: IN, see `item_search.find_items`.
          output: OUT, a folder.
          options: how to make it.
          licence: of the codec's weights.
          extend: add shards for items that are not in the plan.

        Raises:
          ValueError: if there is no input, or OUT holds a data set of other items or settings.
        """
        if "://" in output:
            raise ValueError(f"OUT: got {output}, must be a local folder")
        codec.check_encoder()
        if codec.model_config.codebook_size > _MOST_CODES:
            raise ValueError(
                f"codebook_size: got {codec.model_config.codebook_size}, must be at most "
                f"{_MOST_CODES} for codes of 16 bits"
            )
        self._codec, self._options, self._licence = codec, options, licence
        self._output = pathlib.Path(output)
        self._name = os.path.basename(inputs.rstrip("/")) or inputs
        self.num_codebooks = codec.count_codebooks(options.bandwidth, options.num_codebooks)
        found = item_search.find_items(inputs, options.keep, output=output)
        self._base, self.unreadable = found.base, found.unreadable
        self.plan = shard_plan.prepare(
            output,
            found.table,
            self._settings(),
            shard_hours=options.shard_hours,
            extend=extend,
        )
        self.files = shard_files.ShardFiles(output)
        with file_errors.as_value_error(self._output):
            (self._output / "data").mkdir(exist_ok=True)

    def arrow_schema(self, shard: int) -> pa.Schema:
        """Return the schema of a shard's file."""
        return schema.arrow_schema(self._info(self.plan.hash_of(shard)), self.plan.kept)

    def tokenizer(
        self,
        limit: shard_work.ErrorLimit,
        *,
        num_readers: int = 0,
        retry_errors: bool = False,
    ) -> tokenizer.Tokenizer:
        """Return what encodes shards; see `tokenizer.Tokenizer`."""
        return tokenizer.Tokenizer(
            self._codec,
            self.plan,
            self.files,
            self.arrow_schema,
            num_codebooks=self.num_codebooks,
            read_settings=self.read_settings,
            row_seconds=self._options.row_seconds or 0.0,
            limit=limit,
            num_readers=num_readers,
            retry_errors=retry_errors,
        )

    @property
    def read_settings(self) -> sound_sources.ReadSettings:
        """How items are read."""
        options = self._options
        return sound_sources.ReadSettings(
            base=self._base,
            sample_rate=self._codec.sample_rate,
            channels=self._codec.channels,
            policy=options.channels,
            min_seconds=options.min_seconds,
            max_seconds=options.max_seconds,
            decoder=options.decoder,
        )

    def receipts(self) -> list[shard_files.Receipt | None]:
        """Return the receipt of every shard, None for those that are not done."""
        return [
            self.files.receipt(shard, self.plan.hash_of(shard))
            for shard in range(self.plan.num_shards)
        ]

    def write_card(self) -> bool:
        """Write OUT/README.md if every shard is done; return whether they are.

        Raises:
          ValueError: if it cannot be written.
        """
        receipts = [receipt for receipt in self.receipts() if receipt is not None]
        if len(receipts) < self.plan.num_shards:
            return False
        facts = dataset_card.DatasetFacts(
            name=self._output.resolve().name,
            sources=[file_paths.shown(self._name)],
            seconds=sum(receipt.seconds for receipt in receipts),
            num_rows=sum(receipt.rows for receipt in receipts),
            num_sources=sum(receipt.sources for receipt in receipts),
            num_files=sum(bool(receipt.rows) for receipt in receipts),
            num_frames=sum(receipt.frames for receipt in receipts),
            num_bytes=sum(receipt.bytes for receipt in receipts),
            num_errors=sum(receipt.errors for receipt in receipts),
            kept={name: str(kind) for name, kind in self.plan.kept.items()},
        )
        text = dataset_card.card(self._info(self.plan.hash_of(0)), facts)
        path = self._output / dataset_card.NAME
        with file_errors.as_value_error(path):
            part_file.write(path, text.encode())
        return True

    def _settings(self) -> dict[str, Any]:
        """Return what the codes depend on, beside the items; all of it is in the plan's hash."""
        options = self._options
        return {
            "checkpoint": self._codec.codes_of.name,
            "fingerprint": self._fingerprint,
            "num_codebooks": self.num_codebooks,
            "channels": options.channels,
            "min_seconds": options.min_seconds,
            "max_seconds": options.max_seconds,
            "row_seconds": options.row_seconds,
            "keep": list(options.keep),
            "decoder": options.decoder,
        }

    @property
    def _fingerprint(self) -> str:
        """Of the model whose codes these are; the codec may have another decoder."""
        return self._codec.codes_of.fingerprint or self._codec.fingerprint

    def _info(self, plan_hash: str) -> schema.DatasetInfo:
        codec, framing = self._codec, self._codec.framing
        model = codec.model_config
        versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
        versions |= {
            "encodec_hk": encodec_hk.__version__,
            "libsndfile": soundfile.__libsndfile_version__,
        }
        return schema.DatasetInfo(
            fingerprint=self._fingerprint,
            checkpoint=codec.codes_of.name,
            source=codec.codes_of.source,
            licence=self._licence,
            sample_rate=codec.sample_rate,
            channels=codec.channels,
            hop_length=codec.hop_length,
            num_codebooks=self.num_codebooks,
            codebook_size=model.codebook_size,
            bandwidth=config.bandwidth_for(model, self.num_codebooks),
            segment_length=framing.length if framing.has_segments else 0,
            segment_stride=framing.stride if framing.has_segments else 0,
            normalize=bool(model.normalize),
            channel_policy=self._options.channels,
            resampling=sound_sources.RESAMPLING,
            row_seconds=float(self._options.row_seconds or 0.0),
            versions=versions,
            plan=plan_hash,
        )
