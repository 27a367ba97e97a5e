"""How fast the codec is, beside PyTorch's implementations and the machine's limit.

`whole` times signals, `layers` the layers of a block, `stream` single frames, `start` the command;
`contenders` are what is timed, `timing` how, `table` shows it.
"""
