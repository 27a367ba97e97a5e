"""Settings of all tests."""

import contextlib
import gc
import re
import tempfile

import hypothesis
import jax
import pytest

from tests import compilation

# No deadline: the first example of a test compiles. The same examples at every run: a test that
# fails fails again.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tests")

# The files that take longest, first: else one process ends with them while the others have nothing
# left to do.
LONGEST = (
    *("documentation", "parity", "model", "codec", "streams", "tokenizer", "tokenize"),
    *("train_step", "layers", "loop", "shipped", "evaluate", "tokenizer_errors", "infer"),
    *("convert", "infer_codes", "train", "placement", "token_rows", "locations"),
    *("web_browser", "onnx_files", "stablehlo_files", "excerpts", "language_training"),
)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # workers of xdist have it from their environment
        folder = tempfile.TemporaryDirectory()
        config.add_cleanup(folder.cleanup)
        compilation.begin(folder.name)


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marker
def pytest_collection_modifyitems(items):
    ranks = {f"test_{name}.py": rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))
    for item in items:
        few = item.get_closest_marker("few")
        if few and int(re.search(r"\d+$", item.name)[0]) not in few.args:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """What was imported stays, and need not be looked through for what does not."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.fixture(scope="module", autouse=True)
def _compilation(request):
    """As users do where the networks are large, or the codes those that users get; else quick."""
    is_normal = request.node.get_closest_marker("compiles_normally")
    with compilation.normal() if is_normal else contextlib.nullcontext():
        yield
    jax.clear_caches()  # else a process grows to gigabytes, and looks through them again and again
