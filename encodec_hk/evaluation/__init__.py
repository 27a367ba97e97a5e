"""How close a codec's output is to its input, what it costs and how long it takes."""
