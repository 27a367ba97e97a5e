"""How close a codec's output is to its input, what it costs and how long it takes.

`metrics` and `perceptual` compare two signals; `measures` is the table of all measures. A codec to
evaluate is a coder: `model_coder` for EnCodec, `baseline_coder` for Opus and MP3. `runner` puts the
files of `selection` through the coders, `journals` lets a later run continue, `excerpts` keeps
sounds for the report, `parity` compares a model with PyTorch. `results` takes means, which
`score_table` and `report` show.
"""
