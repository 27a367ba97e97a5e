"""The card of a data set of codes: its README.md, as the Hugging Face hub reads it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

from encodec_hk.tokens import schema

NAME = "README.md"

# The licences of cards, by the hub's identifiers; others would need a name and a link.
_IDENTIFIERS = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsl-1.0
cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0
cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 gfdl gpl gpl-2.0
gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 mit odbl odc-by openrail other pddl unknown unlicense
"""
_HUB_LICENCES = frozenset(_IDENTIFIERS.split())
_COLUMNS = {
    "id": "unique name of the row",
    "source": "where the audio was",
    "part": "number of the row among those of its source and channel, from 0",
    "channel": "of the source, from 0; -1 for all, mixed",
    "start": "seconds into the source",
    "duration": "seconds",
    "num_frames": "F, frames of the row",
    "num_samples": "samples of the row, at the model's rate",
    "source_rate": "Hz of the source",
    "source_channels": "channels of the source",
    "codes": "K lists, one per codebook, of F codes each",
    "scales": "the scale of each segment",
}
_TYPES = {"codes": "list of lists of int16", "scales": "list of float32"}
_CHANNEL_POLICIES = {
    "mean": "mixed to the model's",
    "split": "each coded alone, as a row of its own",
    "first": "the first one",
}


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
    """What a card says besides `DatasetInfo`.

    Attributes:
      name: of the data set, such as the name of OUT.
      sources: where the audio came from, such as IN.
      seconds: of audio.
      num_rows, num_sources, num_files, num_frames, num_bytes: of the data set; bytes of its files.
      num_errors: sources that could not be coded and are missing.
      kept: types of the kept columns, by name.
      audio_licence: of the audio, such as cc-by-4.0; "" if it is not known.
    """

    name: str
    sources: Sequence[str]
    seconds: float
    num_rows: int
    num_sources: int
    num_files: int
    num_frames: int
    num_bytes: int
    num_errors: int = 0
    kept: Mapping[str, str] = dataclasses.field(default_factory=dict)
    audio_licence: str = ""


def card(info: schema.DatasetInfo, facts: DatasetFacts) -> str:
    """Return the text of a card, Markdown after YAML; equal facts give equal text."""
    made_by = f"encodec-hk {info.versions.get('encodec_hk', '')}".rstrip()
    lines = (
        *_front_matter(facts),
        "",
        f"# {_plain(facts.name)}",
        "",
        f"Codes of the neural audio codec EnCodec, checkpoint `{_plain(info.checkpoint)}`,",
        f"made by `tokenize` of {made_by}.",
        "Each source was encoded as a whole"
        + (", and then cut into rows." if info.row_seconds else "."),
        "",
        *_statistics(info, facts),
        "",
        "## Load it",
        "",
        *_examples(info),
        "",
        "## Columns",
        "",
        *_columns(info, facts),
        "",
    )
    return "\n".join(lines)


def _front_matter(facts: DatasetFacts) -> list[str]:
    licence = facts.audio_licence.lower()
    return [
        "---",
        f"pretty_name: {json.dumps(facts.name)}",
        *([f"license: {licence}"] if licence in _HUB_LICENCES else []),
        "tags:",
        "- audio",
        "- audio-codec",
        "- encodec",
        "size_categories:",
        f"- {_size_category(facts.num_rows)}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: data/train-*.parquet",
        "---",
    ]


def _size_category(num_rows: int) -> str:
    """Return the hub's name for a number of rows, such as 1K<n<10K."""
    units = ("", "K", "M", "B", "T")
    bounds = [f"{10 ** (power % 3)}{units[power // 3]}" for power in range(3, 13)]
    exponent = len(str(max(num_rows, 1))) - 1
    if exponent < 3:
        return "n<1K"
    if exponent >= 12:
        return "n>1T"
    return f"{bounds[exponent - 3]}<n<{bounds[exponent - 2]}"


def _statistics(info: schema.DatasetInfo, facts: DatasetFacts) -> list[str]:
    hours = facts.seconds / 3600
    length = f"{hours:,.2f} hours" if hours >= 1 else f"{60 * hours:.2f} minutes"
    size = f"{facts.num_bytes / 1e6:,.2f} MB in {_count(facts.num_files, 'file')}"
    if hours:
        size += f", {facts.num_bytes / 1e6 / hours:.2f} MB an hour"
    rows = _count(facts.num_rows, "row")
    if info.row_seconds:
        rows += f" of at most {info.row_seconds:g} s"
    kinds = {1: "mono", 2: "stereo"}
    lines = {
        "Audio": f"{length}, {_count(facts.num_sources, 'source')}",
        "Sources": ", ".join(map(_plain, facts.sources)),
        "Rows": rows,
        "Frames": f"{facts.num_frames:,}, {info.sample_rate / info.hop_length:g} a second",
        "Codes": (
            f"{info.num_codebooks} codebooks of {info.codebook_size} entries, "
            f"{info.bandwidth:g} kbps"
        ),
        "Size": size,
        "Missing": f"{_count(facts.num_errors, 'source')} that could not be read or coded",
        "Checkpoint": _plain(info.checkpoint + (f" ({info.source})" if info.source else "")),
        "Fingerprint": f"`{info.fingerprint}`",
        "Model": (
            f"{info.sample_rate} Hz, {kinds.get(info.channels, f'{info.channels} channels')}, a "
            f"frame every {info.hop_length} samples"
        ),
        "Channels of sources": _CHANNEL_POLICIES.get(info.channel_policy, info.channel_policy),
        "Resampling": _plain(info.resampling),
        "Licence of the audio": _plain(facts.audio_licence) or "not stated",
        "Licence of the weights": _plain(info.licence) or "not stated",
        "Plan": f"`{info.plan}`",
        "Versions": ", ".join(f"{name} {info.versions[name]}" for name in sorted(info.versions)),
    }
    if not facts.num_errors:
        del lines["Missing"]
    return ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in lines.items())]


_EXAMPLES = """\
In the folder of this file; from the hub, `datasets.load_dataset("USER/NAME", split="train")`.

```python
import datasets

dataset = datasets.load_dataset("parquet", data_files="data/*.parquet", split="train")
codes = dataset[0]["codes"]  # [K][F]
```

```python
import numpy as np
import pandas as pd

frame = pd.read_parquet("data")
codes = np.stack(frame["codes"][0])  # [K, F]
```

```python
import polars as pl

frame = pl.scan_parquet("data/*.parquet").select("id", "duration", "codes").collect()
```

```python
import duckdb

[[hours]] = duckdb.sql("SELECT sum(duration) / 3600 FROM 'data/*.parquet'").fetchall()
```

For training in JAX or PyTorch: rows, and random crops that depend on the seed and the index alone.

```python
from encodec_hk import tokens

rows = tokens.open(".")
codes = rows[0]["codes"]  # int32 [K, F]
crops = rows.crops(SECOND, seed=0, pad=SIZE)  # 1 s, with SIZE after the end of shorter rows
codes = crops[0]["codes"]
```

To listen: `encodec-hk detokenize data/train-00000.parquet FOLDER --limit=10`, in a clone
`python3 run.py detokenize ...`.
"""


def _examples(info: schema.DatasetInfo) -> list[str]:
    second = max(round(info.sample_rate / info.hop_length), 1)
    text = _EXAMPLES.replace("SECOND", str(second)).replace("SIZE", str(info.codebook_size))
    return text.splitlines()


def _columns(info: schema.DatasetInfo, facts: DatasetFacts) -> list[str]:
    columns = [
        (field.name, _TYPES.get(field.name, str(field.type)), _COLUMNS[field.name])
        for field in schema.arrow_schema(info)
    ]
    columns += [(_plain(name), kind, "kept from the input") for name, kind in facts.kept.items()]
    return [
        "| Column | Type | |",
        "|---|---|---|",
        *(f"| `{name}` | {kind} | {text} |" for name, kind, text in columns),
    ]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _plain(text: str) -> str:
    """Return text that cannot end a line, a cell of a table or a piece of code."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")
