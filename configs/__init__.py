"""Variants of EnCodec: one file with `get_config()` for each; `base` documents every field."""
