"""Training steps of a model with a Vocos decoder."""

import jax
import numpy as np
from absl.testing import absltest

import encodec_hk
from encodec_hk import config
from encodec_hk.training import train_state
from tests import random_networks
from tests.training import test_train_step

VOCOS = {"dim": 8, "intermediate": 12, "num_layers": 1, "n_fft": 16}


class VocosTrainingTest(absltest.TestCase):
    def test_a_decoder_learns_for_frozen_codes(self):
        variant = test_train_step.configure(
            {"decoder": "vocos", "vocos": VOCOS | {"bandwidths": (8.0, 24.0)}},
            {"frozen": ("encoder", "quantizer")},
        )
        train = test_train_step.Trainer(variant)
        weights = train.fresh.generator["decoder/head/linear"]
        self.assertSameElements(weights, ["w", "b"])  # Vocos has no weight norm
        state, metrics = train(train.fresh, judged=False)
        self.assertTrue(metrics["is_finite"])
        norm = config.vocos_norms(variant.model)[int(metrics["num_codebooks"]) - 1]
        before = random_networks.random_params(variant.model)
        after = train_state.export(state, variant)
        for module, leaves in before.items():
            for name, leaf in leaves.items():
                changed = np.abs(leaf - after[module][name]) > 5e-7  # more than rounding
                if not module.startswith("decoder"):
                    self.assertFalse(changed.any(), f"{module} {name}")
                elif module.endswith("/norm"):  # of the bandwidth of this step alone
                    self.assertTrue(changed[norm].any(), f"{module} {name}")
                    self.assertFalse(changed[1 - norm].any(), f"{module} {name}")
                else:
                    self.assertTrue(changed.any(), f"{module} {name}")
        codecs = [
            encodec_hk.Codec(variant.model, jax.tree.map(np.asarray, params))
            for params in (before, after)
        ]
        self.assertEqual(codecs[0].codes_of, codecs[1].codes_of)
        self.assertNotEqual(codecs[0].fingerprint, codecs[1].fingerprint)


if __name__ == "__main__":
    absltest.main()
