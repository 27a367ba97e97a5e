"""Speed of the codec, beside PyTorch's implementations and the machine's limit.

`whole` times whole signals, `layers` the layers of a block, `stream` single frames, and `start` the
`infer` command. `implementations` holds what is timed; `timing` runs it, `timing_tables` prints it.
"""
