"""PyTorch checkpoints in and out: Meta's encodec, audiocraft, transformers.

`conversion` reads any of them, `transformers_network` writes. No other room imports torch,
transformers or encodec.
"""
