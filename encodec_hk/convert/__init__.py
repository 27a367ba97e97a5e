"""PyTorch checkpoints in and out: Meta's encodec, audiocraft, transformers.

`conversion` converts any checkpoint to ours: `pytorch_files` reads its file, `source_config`
translates its config, `tensor_names` maps its tensors and `weights` converts them. The other way
is `transformers_network`; `verify` and `pytorch_codecs` run PyTorch's networks. No other room
imports torch, transformers or encodec.
"""
