"""Published checkpoints, read without PyTorch: folders and files of transformers, and the hub.

`locations.load` reads whatever a name stands for. `convert` uses the tables of names and configs
from here, and adds what needs PyTorch.
"""
