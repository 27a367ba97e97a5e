"""How close a codec's output is to what went in, what it costs and how long it takes.

`signals`, `metrics` and `perceptual` measure a pair of signals, `measuring` takes all measures of
one. `coded` says what a codec is here: `models` are ours, `baselines` others (whose files `packets`
reads), `rates` counts bytes and codes. `jobs` puts `sources` through them, with `workers` that
measure, a `journal` to go on from and `excerpts` to listen to; `results` names what is found,
`summary` and `table` make means of it.
"""
