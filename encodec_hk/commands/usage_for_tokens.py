"""Arguments, flags and examples of the commands that make and read data sets of codes."""

from __future__ import annotations

from encodec_hk.commands import flag_types

TOKENIZE = flag_types.Command(
    "Make a data set of codes: Parquet files of any amount of audio, resumable.",
    "Encode every sound that IN names, whole, and write the codes to Parquet files in OUT/data, "
    "which load_dataset, pandas, polars and DuckDB read. The input is divided into shards. The "
    "same command goes on where an earlier one was interrupted, and ends in the same bytes; other "
    "settings, another model or another input in the same OUT are refused. The exit status is 1 "
    "if items or shards failed: see OUT/.tokenize/errors.",
    (
        flag_types.CHECKPOINT,
        flag_types.Flag(
            "bandwidth",
            "number",
            "KBPS",
            "Bandwidth in kbps, one of those that `describe` lists.",
            otherwise="the model's, 6 for the shipped one",
        ),
        flag_types.NUM_CODEBOOKS,
        flag_types.Flag(
            "channels",
            ("mean", "split", "first"),
            "",
            "mean mixes the channels to those of the model, split makes a row of each, first takes "
            "the first one.",
            "mean",
        ),
        flag_types.Flag(
            "min_seconds",
            "number",
            "S",
            "Skip what is shorter.",
            otherwise="any length",
        ),
        flag_types.Flag(
            "max_seconds",
            "number",
            "S",
            "Skip what is longer. Nothing is ever cut off; --row_seconds divides.",
            otherwise="any length",
        ),
        flag_types.Flag(
            "row_seconds",
            "number",
            "S",
            "Length of a row. The codes are divided after the whole was encoded, so that borders "
            "change nothing.",
            otherwise="whole items",
        ),
        flag_types.Flag(
            "keep",
            "list",
            "FIELD,...",
            "Fields of a manifest, of the .json or .txt files of a tar, or columns of a Parquet "
            "file to keep as columns.",
            otherwise="none",
        ),
        flag_types.Flag(
            "shard_hours", "number", "H", "Hours of audio in a shard, about: a file of OUT.", 10.0
        ),
        flag_types.Flag(
            "decoder",
            ("soundfile", "av"),
            "",
            "av reads .opus files with PyAV, which is 2 to 3 times as fast. m4a and webm files "
            "need PyAV in any case.",
            "soundfile",
        ),
        flag_types.Flag(
            "shard",
            "string",
            "I/N",
            "Work on every N-th shard from I on, I from 0 to N - 1; auto takes both from SLURM, "
            "Kubernetes (with JOB_COMPLETIONS set) or RANK and WORLD_SIZE.",
            otherwise="all shards",
        ),
        flag_types.Flag(
            "engine",
            ("local", "ray"),
            "",
            "ray runs on the workers of a Ray cluster, by RAY_ADDRESS, or on this machine.",
            "local",
        ),
        flag_types.Flag(
            "workers",
            "integer",
            "N",
            "Actors of --engine=ray.",
            otherwise="one per GPU; without any, one per machine",
        ),
        flag_types.Flag(
            "readers",
            "integer",
            "N",
            "Processes that read and decode audio; 0 reads in the main process.",
            otherwise="one for 4 cores on a CPU, all cores but one on a GPU, 32 at most",
        ),
        flag_types.Flag(
            "max_errors",
            "string",
            "N%",
            "Items of a shard that may fail, as a share or a number; above, the shard fails, so "
            "that a disk that is not mounted is not taken for bad audio. A single one may always.",
            "1%",
        ),
        flag_types.Flag(
            "retry_errors", "switch", "", "Try the failed items of complete shards again."
        ),
        flag_types.Flag(
            "extend", "switch", "", "Add shards for items that are new since OUT was begun."
        ),
        flag_types.Flag(
            "status", "switch", "", "Only say what is done, while others work or after them."
        ),
        flag_types.Flag(
            "verify", "switch", "", "Only encode a random sample of OUT again, and compare."
        ),
    ),
    (
        (
            "IN",
            "A folder (searched recursively), a pattern in quotes, a manifest (.jsonl, .json.gz: "
            "a line for each item, with path or audio_filepath), a WebDataset .tar, a .parquet "
            "file with a column of {bytes, path}, or an fsspec URL of these.",
        ),
        ("OUT", "A folder for the data set."),
    ),
    (
        "tokenize speech speech_codes",
        "tokenize train.jsonl codes --keep=text,speaker --row_seconds=30",
        "tokenize 'tars/*.tar' codes --shard=auto",
        "tokenize speech speech_codes --status",
    ),
)

DETOKENIZE = flag_types.Command(
    "Decode rows of a data set of codes to sound files, to listen to.",
    "Decode rows of Parquet files that `tokenize` made, each to a sound file in FOLDER, named "
    "after the row.",
    (
        flag_types.CHECKPOINT,
        flag_types.Flag("ids", "list", "ID,...", "IDs of rows, or of items.", otherwise="all rows"),
        flag_types.Flag("limit", "integer", "N", "Decode the first N rows.", otherwise="all rows"),
        flag_types.Flag(
            "suffix",
            "string",
            ".SUFFIX",
            "Suffix, and so the container, of the files: .wav, .flac, .mp3, .ogg, .opus, ...",
            ".wav",
        ),
        flag_types.SAMPLE_FORMAT,
        flag_types.RESCALE,
        flag_types.FORCE,
    ),
    (
        ("IN", "A Parquet file, a folder, a pattern in quotes, or a URL of these."),
        ("FOLDER", "A folder for the sound files."),
    ),
    ("detokenize codes/data/train-00000.parquet sound --limit=10",),
)
