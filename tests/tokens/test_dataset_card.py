"""The card of a data set: what the hub reads, and its Python, executed."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

import huggingface_hub
import pyarrow.parquet as pq
import pytest
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.tokens import dataset_card
from tests import token_files

ROOT = pathlib.Path(__file__).parents[2]
FACTS = dataset_card.DatasetFacts(
    name="OUT",
    sources=("music",),
    seconds=7200.0,
    num_rows=1234,
    num_sources=250,
    num_files=2,
    num_frames=540000,
    num_bytes=5_400_000,
    num_errors=3,
    kept={"text": "string"},
    audio_licence="CC-BY-4.0",
)


def with_facts(**fields):
    return dataset_card.DatasetFacts(**{**FACTS.__dict__, **fields})


class CardTest(parameterized.TestCase):
    def test_front_matter(self):
        found = huggingface_hub.DatasetCard(dataset_card.card(token_files.INFO, FACTS)).data
        self.assertEqual(found.pretty_name, "OUT")
        self.assertEqual(found.license, "cc-by-4.0")
        self.assertEqual(found.size_categories, ["1K<n<10K"])
        config = {"split": "train", "path": "data/train-*.parquet"}
        self.assertEqual(found.configs, [{"config_name": "default", "data_files": [config]}])

    @parameterized.parameters("", "all rights reserved")
    def test_a_licence_that_the_hub_does_not_know(self, licence):
        text = dataset_card.card(token_files.INFO, with_facts(audio_licence=licence))
        self.assertNotIn("\nlicense:", text)
        self.assertIn(f"| Licence of the audio | {licence or 'not stated'} |", text)

    @parameterized.parameters(
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (99_999, "10K<n<100K"),
        (100_000, "100K<n<1M"),
        (5_000_000, "1M<n<10M"),
        (2 * 10**9, "1B<n<10B"),
        (10**12, "n>1T"),
    )
    def test_size_categories(self, num_rows, expected):
        card = dataset_card.card(token_files.INFO, with_facts(num_rows=num_rows))
        self.assertIn(f"\n- {expected}\n", card)

    def test_statistics(self):
        text = dataset_card.card(token_files.INFO, FACTS)
        for line in (
            "| Audio | 2.00 hours, 250 sources |",
            "| Sources | music |",
            "| Rows | 1,234 rows of at most 30 s |",
            "| Frames | 540,000, 75 a second |",
            "| Codes | 2 codebooks of 1024 entries, 1.5 kbps |",
            "| Size | 5.40 MB in 2 files, 2.70 MB an hour |",
            "| Missing | 3 sources that could not be read or coded |",
            "| Checkpoint | encodec_tiny (tests) |",
            f"| Fingerprint | `{token_files.INFO.fingerprint}` |",
            "| Licence of the weights | MIT |",
            "| `codes` | list of lists of int16 | K lists, one per codebook, of F codes each |",
            "| `text` | string | kept from the input |",
        ):
            self.assertIn(f"\n{line}\n", text)
        self.assertIn("\nEach source was encoded as a whole, and then cut into rows.\n", text)
        self.assertNotIn("`scales`", text)
        self.assertNotIn("| Missing", dataset_card.card(token_files.INFO, with_facts(num_errors=0)))
        info = token_files.with_fields(normalize=True, row_seconds=0.0)
        text = dataset_card.card(info, FACTS)
        self.assertIn("\n| `scales` | list of float32 | the scale of each segment |\n", text)
        self.assertIn("\n| Rows | 1,234 rows |\n", text)
        self.assertIn("\nEach source was encoded as a whole.\n", text)
        text = dataset_card.card(info, with_facts(seconds=90.0))
        self.assertIn("\n| Audio | 1.50 minutes, 250 sources |\n", text)

    def test_names_from_outside_do_not_break_the_text(self):
        facts = with_facts(name='a "b"\n---\nc: `d`', sources=("x|y\nz",))
        text = dataset_card.card(token_files.INFO, facts)
        self.assertEqual(huggingface_hub.DatasetCard(text).data.pretty_name, facts.name)
        self.assertIn("\n# a \"b\" --- c: 'd'\n", text)
        self.assertIn("\n| Sources | x\\|y z |\n", text)

    @pytest.mark.slow
    def test_its_python_runs(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "OUT"
        lengths = [100, 80, 3, 75, 300, 10, 60, 70]
        token_files.write_dataset(folder, lengths)
        seconds = sum(lengths) / 75
        (folder / ".tokenize").mkdir()
        (folder / ".tokenize/plan.json").write_text("{}")
        text = dataset_card.card(token_files.INFO, FACTS)
        (folder / dataset_card.NAME).write_text(text)
        found = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
        self.assertLen(found, 5)
        codes = pq.read_table(folder / "data")["codes"][0].as_py()
        checks = (
            f"assert len(dataset) == 8 and codes == {codes}, codes",
            f"assert len(frame) == 8 and codes.tolist() == {codes}, codes",
            f"assert len(frame) == 8 and frame['codes'][0].to_list() == {codes}",
            f"assert abs(hours - {seconds / 3600}) < 1e-9, hours",
            "assert len(rows) == 8 and codes.shape == (2, 75), codes.shape",
        )
        of_hub = "assert len(datasets.load_dataset('../OUT', split='train')) == 8"
        checks = (f"{checks[0]}\n{of_hub}", *checks[1:])
        program = "\n".join(part for pair in zip(found, checks, strict=True) for part in pair)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HF_HOME": str(folder / ".cache"),
            "HF_HUB_OFFLINE": "1",
        }
        result = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    absltest.main()
