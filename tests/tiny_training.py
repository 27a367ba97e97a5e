"""The variant of the training tests: every part of the recipe, at the smallest size.

This is a file like those in `configs/`, which processes of run.py take by --config.
"""

import pathlib

import numpy as np

from configs import base
from encodec_hk.sound import sound_files

PATH = "tests/tiny_training.py"
RATE = 8000  # Hz
CROP = 512  # samples


def get_config():
    """Return the configuration."""
    config = base.get_config()
    config.name = "tiny"
    config.checkpoint = "checkpoints/tiny.safetensors"
    config.model.update(
        sample_rate=RATE,
        ratios=(4,),
        num_filters=4,
        latent_dim=4,
        num_lstm_layers=0,
        num_codebooks=3,
        codebook_size=16,
        bandwidths=(8.0, 24.0),  # 1 and 3 codebooks
    )
    config.inference.bandwidth = 8.0
    training = config.training
    training.num_steps = 8
    training.batch_size = 8
    training.crop_seconds = CROP / RATE
    training.mel_windows = (32, 64)
    training.num_mels = 8
    training.codebooks.kmeans_iterations = 5
    training.discriminator.num_filters = 2
    training.discriminator.windows = (64,)
    training.data.num_workers = 0
    training.log_every = 1
    training.checkpoint_every = 2
    training.validation_items = 0
    return config


def waves(batch, length=CROP, channels=1, seed=0):
    """Return sines of random frequency, phase and height, with some noise: float32 [B, T, C]."""
    rng = np.random.default_rng(seed)
    low, high = (0.01, 0.0, 0.1), (0.2, 1.0, 0.8)
    drawn = rng.uniform(low, high, (batch, 1, channels, 3))
    frequency, phase, height = np.moveaxis(drawn, -1, 0)
    angle = 2 * np.pi * (frequency * np.arange(length)[:, None] + phase)
    noise = 0.01 * rng.normal(size=(batch, length, channels))
    return (height * np.sin(angle) + noise).astype(np.float32)


def write_sounds(folder, count=3, seconds=1.0, channels=1):
    """Write sound files into a folder, created if missing."""
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    for index, samples in enumerate(waves(count, int(seconds * RATE), channels)):
        sound_files.write(pathlib.Path(folder, f"{index:02}.wav"), samples, RATE)
