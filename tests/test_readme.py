"""README's commands and Python, run in their order in a folder that looks like a fresh clone."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

import pytest
from absl.testing import absltest

from tests import compilation
from tests import reference_files
from tests import references

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
HUB_NAME = "facebook/encodec_24khz"
# What README says to type and a test does not: environments, packages, the tests themselves.
# Nor does one a microphone.
NOT_RUN = (
    *("python3.11 -m venv .venv", ". .venv/bin/activate", "pip install ", "bash test.sh"),
    "ffmpeg ",
)

# What takes minutes, together: the published network, training, an evaluation, several files at a
# time, and some more ways through a codec.
LONG = re.compile(
    "encodec_24khz.safetensors|(convert|bench) .*configs/encodec_24khz.py|run.py train"
    r"|run.py evaluate|music_\*|music_beat|clips_codes| - "
)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


class ReadmeTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        for name in ("run.py", "configs", "assets"):
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / "checkpoints").mkdir()
        shipped = "checkpoints/encodec_24khz_small.safetensors"
        shutil.copy(ROOT / shipped, self.folder / shipped)
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run_in_folder(self, *command):
        result = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        self.assertEqual(result.returncode, 0, f"{command}: {result.stderr}{result.stdout}")
        return result.stdout

    def fill_hub_cache(self):
        """A random network of the published one's shape, where the hub keeps what it fetched."""
        cache = self.folder / "hub"
        repository = cache / f"models--{HUB_NAME.replace('/', '--')}"
        commit = "0123456789" * 4
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        network = references.transformers_model("encodec_24khz")
        reference_files.save_transformers(network, repository / "snapshots" / commit)
        self.environment |= {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}

    def test_commands(self):
        self.assertGreaterEqual(self.run_commands(is_long=False), 7)
        for name in ("reading_6kbps.wav", "guitar_3kbps.wav"):
            self.assertTrue((self.folder / name).is_file(), name)

    @pytest.mark.slow
    def test_commands_that_take_minutes(self):
        self.enter_context(compilation.normal())  # for processes, too
        self.environment |= os.environ
        self.fill_hub_cache()
        self.assertGreaterEqual(self.run_commands(is_long=True), 12)
        names = (
            "clips_24kbps/speech_reading.wav clips_decoded/music_beat.wav evaluation/report.html "
            "beat.flac guitar_piped.wav"
        )
        for name in (*names.split(), "run/encodec_tiny.safetensors"):
            self.assertTrue((self.folder / name).is_file(), name)

    def run_commands(self, is_long):
        """Runs README's commands, those that take minutes or the others."""
        count = 0
        for line in "".join(blocks("bash")).splitlines():
            for command in line.split(" && "):
                if command.startswith(NOT_RUN) or is_long != bool(LONG.search(command)):
                    continue
                count += 1
                self.assertStartsWith(command, "python run.py ")
                if " | " in command:
                    shell = command.replace("python ", f"{shlex.quote(sys.executable)} ")
                    output = self.run_in_folder("bash", "-o", "pipefail", "-c", shell)
                else:
                    output = self.run_in_folder(sys.executable, *shlex.split(command)[1:])
                if "--verify" in command:
                    self.assertRegex(output, r"codebook 31: +\d")
                    self.assertRegex(output, "100.000% equal, of")
        return count

    def test_python(self):
        code = "".join(blocks("python"))
        self.run_in_folder(sys.executable, "-c", f"{code}\nassert sound.shape == (1, 16000, 1)")

    def test_links_and_variants(self):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
            self.assertTrue((ROOT / target).exists(), target)
        named = set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE))
        configs = {path.stem for path in (ROOT / "configs").glob("encodec_*.py")}
        self.assertEqual(named, configs)


if __name__ == "__main__":
    absltest.main()
