"""Data sets of codes: made from any amount of audio, and read by those who train on them."""
