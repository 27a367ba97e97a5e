"""The commands: what is parsed, and what help shows."""

from __future__ import annotations

from encodec_hk.commands import flag_types
from encodec_hk.commands import usage_for_files
from encodec_hk.commands import usage_for_models

COMMANDS: dict[str, flag_types.Command] = {
    "infer": usage_for_files.INFER,
    "info": usage_for_files.INFO,
    "convert": usage_for_models.CONVERT,
    "train": usage_for_models.TRAIN,
    "evaluate": usage_for_models.EVALUATE,
    "bench": usage_for_models.BENCH,
    "describe": usage_for_models.DESCRIBE,
}
