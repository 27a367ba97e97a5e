"""The commands and the Python of README and docs/, run in order in what looks like a fresh clone.

Each page is run in a folder of its own.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

import pytest
import torch
from absl.testing import absltest
from absl.testing import parameterized

from tests import compilation
from tests import reference_files
from tests import references
from tests import vocos_references

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
HUB_NAME, VOCOS_NAME = "facebook/encodec_24khz", "charactr/vocos-encodec-24khz"

# What pages say to type and a test does not: environments, packages, the tests themselves, a
# microphone, a server.
NOT_RUN = (
    *("python3 -m venv ", ". .venv/bin/activate", "pip install ", "bash test.sh", "ffmpeg "),
    "tensorboard ",
    "python3 -m http.server ",
)
# Commands whose data or weights a clone lacks, or that need a GPU or a network: only parsed.
PARSED = re.compile(
    r"--data=(music|free_audio)|--distributed|XLA_PYTHON|datasets.debian|train\.jsonl|encodec_lm_"
    r"|--format=web"
)
# What takes minutes, together: the published network, training, an evaluation, several files at a
# time, and some more ways through a codec.
LONG = re.compile(
    r"encodec_24khz\.safetensors|facebook/|vocos(_joined)?\.safetensors|(convert|bench) "
    r"|run.py train|run.py evaluate|music_\*|music_beat|clips_codes|clips_3kbps| - "
)
# What each page's commands must have made, to be sure that they were found and run.
MADE = {
    "README.md": ["reading_6kbps.wav", "guitar_3kbps.wav"],
    "docs/infer.md": ["reading.wav", "guitar_3kbps.ecdc", "guitar_3kbps.wav"],
    "docs/ecdc.md": ["guitar.ecdc"],
    "docs/export.md": ["codec_onnx/stream.json", "codec_stablehlo/export.json"],
    "docs/tokens.md": ["codes/data/train-00000.parquet", "sound/music_guitar.flac.wav"],
}
MADE_SLOWLY = {
    "docs/infer.md": [
        *("clips_3kbps/speech_reading.wav", "music/music_tabla.wav", "beat.flac"),
        *("clips_decoded/music_beat.wav", "guitar_piped.wav"),
    ],
    "docs/conversion.md": [
        *("clips_24kbps/speech_reading.wav", "encodec_24khz_transformers/config.json"),
    ],
    "docs/vocos.md": ["vocos.safetensors", "reading.wav", "reading_decoded.wav"],
    "docs/training.md": ["run/encodec_tiny.safetensors"],
    "docs/evaluation.md": ["evaluation_speech/report.html"],
    "docs/performance.md": ["bench.json"],
}
# Pages whose Python needs what their commands made.
PYTHON_AFTER_COMMANDS = ("docs/export.md", "docs/vocos.md")
# Commands that make what the Python of their page reads.
BEFORE_PYTHON = re.compile(r"tokenize assets/clips codes")
_PARSE = """
import sys
from encodec_hk.commands import command_line
name, *arguments = command_line.parse(sys.argv)[1:]
command_line.variant(command_line.settings(name, arguments))
"""


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def commands(page):
    """The commands of a page, without those that no test types."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    found = [command.strip() for line in lines for command in line.split(" && ")]
    return [command for command in found if not command.startswith(NOT_RUN)]


class DocumentationTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        for name in ("run.py", "configs", "assets"):
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / "checkpoints").mkdir()
        for path in (ROOT / "checkpoints").glob("*.safetensors"):
            shutil.copy(path, self.folder / "checkpoints")
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run_in_folder(self, *command):
        result = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        self.assertEqual(result.returncode, 0, f"{command}: {result.stderr}{result.stdout}")
        return result.stdout

    def run_command(self, command):
        self.assertStartsWith(command, "python3 ")
        shell = command.replace("python3 ", f"{shlex.quote(sys.executable)} ")
        output = self.run_in_folder("bash", "-o", "pipefail", "-c", shell)
        if "--verify" in command:
            self.assertRegex(output, r"codebook 31: +\d")
            self.assertRegex(output, "100.000% equal, of")

    def check_made(self, names):
        for name in names:
            self.assertTrue((self.folder / name).is_file(), name)

    def fill_hub_cache(self):
        """Put a random network of the published shape where the hub keeps what it fetched."""
        cache = self.folder / "hub"
        repository = cache / f"models--{HUB_NAME.replace('/', '--')}"
        commit = "0123456789" * 4
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        network = references.transformers_model("encodec_24khz")
        reference_files.save_transformers(network, repository / "snapshots" / commit)
        # And a decoder of its codes.
        repository = cache / f"models--{VOCOS_NAME.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        decoder = vocos_references.Reference()
        layers = network.quantizer.layers[: len(decoder.codebooks)]
        decoder.codebooks = torch.stack([layer.codebook.embed for layer in layers])
        decoder.save(repository / "snapshots" / commit)
        self.environment |= {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}

    @parameterized.parameters(*PAGES)
    @pytest.mark.few(*range(3), 4, 7, 8, 10, 11)
    def test_commands(self, page):
        for command in commands(page):
            if not PARSED.search(command) and not LONG.search(command):
                self.run_command(command)
        self.check_made(MADE.get(page, []))

    @parameterized.parameters(*PAGES)
    @pytest.mark.slow
    def test_commands_that_take_minutes(self, page):
        chosen = [each for each in commands(page) if not PARSED.search(each)]
        if not any(map(LONG.search, chosen)):
            return
        self.enter_context(compilation.normal())  # for processes, too
        self.environment |= {**os.environ, "PYTHONPATH": str(ROOT)}
        if any(HUB_NAME in command or "encodec_24khz." in command for command in chosen):
            self.fill_hub_cache()
        for command in chosen:
            self.run_command(command)
        if page in PYTHON_AFTER_COMMANDS:
            self.run_in_folder(sys.executable, "-c", "".join(blocks(page, "python")))
        self.check_made([*MADE.get(page, []), *MADE_SLOWLY.get(page, [])])

    @parameterized.parameters(*PAGES)
    def test_commands_that_are_parsed_alone(self, page):
        for command in commands(page):
            if not PARSED.search(command):
                continue
            words = shlex.split(command)
            words = words[words.index("python3") + 1 :]
            if words[0] == "-m":
                self.run_in_folder(sys.executable, *words[:2], "--help")
            else:
                self.run_in_folder(sys.executable, "-c", _PARSE, *words[1:])

    @parameterized.parameters(*(page for page in PAGES if blocks(page, "python")))
    @pytest.mark.few(0, 2, 3, *range(5, 12))
    def test_python(self, page):
        if page in PYTHON_AFTER_COMMANDS:
            return
        for command in filter(BEFORE_PYTHON.search, commands(page)):
            self.run_command(command)
        self.run_in_folder(sys.executable, "-c", "".join(blocks(page, "python")))

    @parameterized.parameters(*PAGES, "docs/listen/README.md", "CONTRIBUTING.md")
    def test_links(self, page):
        text = (ROOT / page).read_text()
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            self.assertTrue(((ROOT / page).parent / target).exists(), target)

    @parameterized.parameters(*PAGES, "docs/listen/README.md", "CONTRIBUTING.md", "CHANGELOG.md")
    def test_prose_breaks_at_100_characters(self, page):
        code = re.compile(r"```.*?```", flags=re.DOTALL)
        for line in code.sub("", (ROOT / page).read_text()).splitlines():
            if not line.lstrip().startswith(("|", "![")):
                self.assertLessEqual(len(line), 100, line)

    def test_readme_names_all_variants(self):
        text = (ROOT / "README.md").read_text()
        named = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
        configs = {path.stem for path in (ROOT / "configs").glob("*_*.py")} - {"__init__"}
        self.assertEqual(named, configs)


if __name__ == "__main__":
    absltest.main()
