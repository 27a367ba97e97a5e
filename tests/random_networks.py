"""Networks with random parameters, drawn in numpy: `Model.init` takes seconds to compile."""

import jax
import numpy as np

from configs import base
from encodec_hk import config
from encodec_hk.networks import model

VARIANTS = {  # overrides for `small`: the kinds of networks that are run differently
    "causal": {},
    "segmented": {
        "causal": False,
        "channels": 2,
        "norm": "time_group_norm",
        "normalize": True,
        "segment_seconds": 0.1,  # 120 samples, one every 118
        "overlap": 0.01,
    },
    "look_ahead": {"causal": False, "shortcut": "identity"},
    "vocos": {"decoder": "vocos"},
    "spectra": {
        "encoder": "fourier",
        "decoder": "vocos",
        "vocos": {"causal": True, "head": "complex"},
    },
}


def random_params(model_config, seed=0):
    """Return random parameters of a model, scaled by fan-in; codebooks shrink one by one."""
    rng = np.random.default_rng(seed)
    shapes = model.build(model_config).param_shapes()

    def draw(path, shape):
        module, name = (key.key for key in path)
        if name == "codebooks":
            spread = 0.3 * 0.8 ** np.arange(shape.shape[0])
            return rng.standard_normal(shape.shape, np.float32) * spread[:, None, None]
        if module.endswith("/norm"):
            return rng.uniform(0.8, 1.2, shape.shape) - (name == "offset")
        fan_in = np.prod(shape.shape[:-1]) if name.startswith("w") else 16
        return rng.uniform(-1, 1, shape.shape) * (2 / fan_in) ** 0.5

    drawn = jax.tree_util.tree_map_with_path(draw, shapes)
    return jax.tree.map(np.float32, drawn)


def small(**overrides):
    """Return the model config of a small causal network with a hop of 12 samples."""
    model_config = base.get_config().model
    model_config.update(
        ratios=(3, 4), num_filters=4, latent_dim=8, num_codebooks=3, codebook_size=16
    )
    tiny = {"dim": 16, "intermediate": 24, "num_layers": 2, "n_fft": 48}
    fourier, vocos = (tiny | overrides.pop(name, {}) for name in ("fourier", "vocos"))
    model_config.fourier.update(fourier)
    model_config.update({"sample_rate": 1200, **overrides})
    model_config.bandwidths = tuple(config.bandwidth_for(model_config, n) for n in (1, 3))
    model_config.vocos.update({"bandwidths": model_config.bandwidths, **vocos})
    config.validate_model(model_config)
    return model_config
