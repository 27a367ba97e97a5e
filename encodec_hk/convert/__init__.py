"""PyTorch checkpoints in and out: Meta's encodec, audiocraft, transformers.

`sources` reads files, `settings` translates configs, `names` is the table of tensors, `weights`
what happens to each, `pytorch` the transformers model, `export` and `verify` its uses. torch and
transformers are imported nowhere else in the package.
"""
