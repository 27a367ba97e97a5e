"""The variants of EnCodec: one file each, `get_config()`; `base` states every field."""
