"""The commands: what is parsed, and what help shows."""

from __future__ import annotations

from encodec_hk.commands import flag_types
from encodec_hk.commands import usage_for_files
from encodec_hk.commands import usage_for_models
from encodec_hk.commands import usage_for_tokens

COMMANDS: dict[str, flag_types.Command] = {
    "infer": usage_for_files.INFER,
    "info": usage_for_files.INFO,
    "tokenize": usage_for_tokens.TOKENIZE,
    "detokenize": usage_for_tokens.DETOKENIZE,
    "convert": usage_for_models.CONVERT,
    "export": usage_for_models.EXPORT,
    "train": usage_for_models.TRAIN,
    "train_language": usage_for_models.TRAIN_LANGUAGE,
    "evaluate": usage_for_models.EVALUATE,
    "bench": usage_for_models.BENCH,
    "describe": usage_for_models.DESCRIBE,
}
