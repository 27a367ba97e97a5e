"""The frequencies and the bytes on other instruction sets, thread counts and devices."""

import os
import pathlib
import subprocess
import sys

import pytest
from absl.testing import absltest
from absl.testing import parameterized

from tests.language import test_code_model
from tests.language import test_language_coder

PROGRAM = """
import hashlib
import jax, numpy as np
from encodec_hk.language import code_model
from tests.language import random_language
from encodec_hk.language import language_coder
model = code_model.build(random_language.SIZES)
device = jax.devices()[-1]
with jax.default_device(device):
    found = jax.jit(model.all_frequencies)(random_language.params(), random_language.codes(2, 12))
    coder = language_coder.LanguageCoder(random_language.model())
    codes = random_language.codes(5, 9)
    blocks = [row[:, :count] for row, count in zip(codes, (9, 8, 1, 9, 3))]
    data = coder.encode(blocks)
    back = coder.decode(data, [block.shape[1] for block in blocks], 4)
assert all((one == two).all() for one, two in zip(back, blocks))
print(len(jax.devices()), hashlib.sha256(np.asarray(found).astype(">i4").tobytes()).hexdigest())
print(hashlib.sha256(b"".join(data)).hexdigest())
"""


class PortabilityTest(parameterized.TestCase):
    @parameterized.parameters(
        ("--xla_cpu_max_isa=SSE4_2", 1),
        ("--xla_cpu_max_isa=AVX2", 2),
        ("--xla_cpu_multi_thread_eigen=false", 1),
        ("", 2),
        ("--xla_force_host_platform_device_count=8", 1),
        ("--xla_allow_excess_precision=true --xla_cpu_enable_fast_math=true", 1),
    )
    @pytest.mark.few(1)
    def test_same_hashes(self, flags, threads):
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        environment |= {"OMP_NUM_THREADS": str(threads), "NPROC": str(threads)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=pathlib.Path(__file__).parents[2],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        devices = 8 if "device_count=8" in flags else 1
        expected = [str(devices), test_code_model.GOLDEN, test_language_coder.GOLDEN]
        self.assertEqual(done.stdout.split(), expected)


if __name__ == "__main__":
    absltest.main()
