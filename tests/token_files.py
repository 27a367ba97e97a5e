"""Small data sets of codes."""

import dataclasses
import pathlib
from unittest import mock

import numpy as np
import pyarrow as pa

from encodec_hk.tokens import schema

INFO = schema.DatasetInfo(
    fingerprint="0123456789abcdef" * 4,
    checkpoint="encodec_tiny",
    source="tests",
    licence="MIT",
    sample_rate=24000,
    channels=1,
    hop_length=320,
    num_codebooks=2,
    codebook_size=1024,
    bandwidth=1.5,
    segment_length=0,
    segment_stride=0,
    normalize=False,
    channel_policy="mean",
    resampling="soxr HQ",
    row_seconds=30.0,
    versions={"jax": "0.10"},
    plan="1" * 64,
)


def row(index, num_frames, info=INFO, **fields):
    """A row whose codes say where they are: codebook, then row and frame."""
    frames = 30 * index + np.arange(num_frames)
    codes = np.stack([frames + 1000 * codebook for codebook in range(info.num_codebooks)])
    values = {
        "id": f"clip_{index:04}",
        "source": f"clip_{index:04}.wav",
        "part": 0,
        "channel": -1,
        "start": 0.0,
        "duration": num_frames * info.hop_length / info.sample_rate,
        "num_frames": num_frames,
        "num_samples": num_frames * info.hop_length,
        "source_rate": 16000,
        "source_channels": 2,
        "codes": codes,
    }
    return schema.TokenRow(**{**values, **fields})


def write(path, rows, info=INFO, kept=None, group_size=256):
    """Write rows as a file, with the folders that it needs."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrow_schema = schema.arrow_schema(info, kept)
    with mock.patch.object(schema, "ROWS_OF_GROUP", group_size):
        schema.write_file(path, [schema.make_table(rows, arrow_schema)], arrow_schema)
    return path


def write_dataset(folder, lengths, info=INFO, files=2, group_size=3):
    """Write rows of so many frames into files of small row groups, as `run.py tokenize` names them.

    Each row has a text, its index in words.
    """
    rows = [
        row(index, length, info, kept={"text": f"row {index}"})
        for index, length in enumerate(lengths)
    ]
    bounds = np.linspace(0, len(rows), files + 1).astype(int)
    for number, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
        path = pathlib.Path(folder) / "data" / f"train-{number:05}.parquet"
        write(path, rows[start:stop], info, {"text": pa.string()}, group_size)
    return rows


def with_fields(**fields):
    return dataclasses.replace(INFO, **fields)
