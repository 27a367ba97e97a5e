"""PyTorch checkpoints in and out: Meta's encodec, audiocraft, transformers.

`conversion` converts any checkpoint to ours: `pytorch_files` reads its file, `source_config`
translates its config, `tensor_names` maps its tensors and `weights` converts them. The other way
are `transformers_network` and `transformers_folder`. `verify` and `pytorch_codecs` run networks.
No other room imports torch, transformers or encodec.
"""
