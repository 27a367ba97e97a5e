"""How close the codec's output is to what went in: metrics of pairs of signals."""
