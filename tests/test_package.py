"""The package: its public names, the files of its wheel, and an installation of it."""

import os
import pathlib
import pydoc
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

import pytest
from absl.testing import absltest

import encodec_hk
from encodec_hk.configs import encodec_tiny
from encodec_hk.system import file_paths

ROOT = pathlib.Path(__file__).parents[1]
SHIPPED = ("encodec_24khz_small", "encodec_24khz_small_language", "encodec_tiny")
NEWEST = ("python3.13", "python3.12", "python3.11")
CORE = """
import sys
import numpy as np
import encodec_hk
from encodec_hk.configs import encodec_48khz

assert "site-packages" in encodec_hk.__file__, encodec_hk.__file__
assert encodec_48khz.get_config().model.channels == 2
codec = encodec_hk.load("encodec_tiny")
audio = np.sin(np.arange(24000, dtype=np.float32) / 20)[None, :, None]
decoded = np.asarray(codec.decode(codec.encode(audio, bandwidth=6.0)))
assert decoded.shape == audio.shape
assert np.mean((decoded - audio) ** 2) < 0.5 * np.mean(audio**2)
assert not {"torch", "configs"} & set(sys.modules)
"""


def run(*command, cwd, env=None):
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env)
    assert result.returncode == 0, f"{command}: {result.stderr}{result.stdout}"
    return result.stdout


def newest_python():
    """The newest Python of pyenv and PATH that can make environments; None if there is none."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    folders = [*map(str, pyenv.glob("versions/*/bin")), os.environ["PATH"]]
    for name in NEWEST:
        python = shutil.which(name, path=os.pathsep.join(folders))
        command = [python, "-c", "import ensurepip, venv"]
        if python and subprocess.run(command, capture_output=True).returncode == 0:
            return python
    return None


class PublicNamesTest(absltest.TestCase):
    def test_help_shows_them(self):
        text = pydoc.plain(pydoc.render_doc(encodec_hk))
        for line in (r"class Codec\(", r"class Encoded\(", r"load\(path", "VERSION"):
            self.assertRegex(text, rf"(?m)^ *{line}")
        self.assertIn('codec = encodec_hk.load("encodec_24khz_small")', text)
        self.assertEqual(dir(encodec_hk), sorted(encodec_hk.__all__))

    def test_import_is_without_jax(self):
        code = "import sys, encodec_hk; assert not {'jax', 'numpy'} & set(sys.modules)"
        run(sys.executable, "-c", code, cwd=ROOT)

    def test_configs_are_those_of_the_clone(self):
        self.assertEqual(
            pathlib.Path(encodec_tiny.__file__), file_paths.shipped_configs()["encodec_tiny"]
        )


class WheelTest(absltest.TestCase):
    def test_has_configs_and_shipped_models(self):
        folder = self.enter_context(tempfile.TemporaryDirectory())
        code = f"from hatchling import build; build.build_wheel({folder!r})"
        run(sys.executable, "-c", code, cwd=ROOT)
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
            entries = archive.read(next(n for n in names if n.endswith("entry_points.txt")))
            stub = archive.read("encodec_hk/configs/__init__.py")
        self.assertIn(b"encodec-hk = encodec_hk.__main__:main", entries)
        self.assertEqual(stub, (ROOT / "configs" / "__init__.py").read_bytes())
        modules = {
            path.relative_to(ROOT).as_posix() for path in (ROOT / "encodec_hk").rglob("*.py")
        }
        configs = {f"encodec_hk/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
        models = {
            f"encodec_hk/checkpoints/{name}{suffix}"
            for name in SHIPPED
            for suffix in (".md", ".safetensors")
        }
        page = {
            f"encodec_hk/{path.relative_to(ROOT).as_posix()}"
            for folder in ("docs/web", "assets/clips")
            for path in (ROOT / folder).iterdir()
        }
        expected = modules | configs | models | page | {"encodec_hk/checkpoints/manifest.json"}
        packed = {name for name in names if not re.search(r"\.dist-info/|/template/", name)}
        self.assertEqual(packed, expected)
        self.assertIn("encodec_hk/evaluation/report/template/page.html", names)


@pytest.mark.slow
class InstallationTest(absltest.TestCase):
    def test_on_the_newest_python(self):
        """`pip install .` by the newest Python here, and the core from another folder."""
        python = newest_python()
        if python is None:
            self.skipTest(
                f"needs one of {', '.join(NEWEST)} with venv: apt-get install python3-venv"
            )
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        run(python, "-m", "venv", "venv", cwd=folder)
        own = folder / "venv" / "bin"
        got = subprocess.run(
            [own / "python", "-m", "pip", "install", "--quiet", "--no-compile", str(ROOT)],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if got.returncode and "connection" in got.stderr.lower():
            self.skipTest(f"needs the packages that encodec-hk depends on: {got.stderr[-300:]}")
        self.assertEqual(got.returncode, 0, got.stderr)
        shutil.copy(ROOT / "assets/clips/speech_numbers.flac", folder / "in.flac")
        # Neither the clone nor the home of whoever tests plays a part.
        settings = ("JAX_", "XLA_", "PYTHON")  # those of tests
        alone = {key: v for key, v in os.environ.items() if not key.startswith(settings)}
        alone |= {"HOME": str(folder), "PYTHONNOUSERSITE": "1"}
        run(own / "python", "-c", CORE, cwd=folder, env=alone)
        run(own / "encodec-hk", "infer", "in.flac", "out.wav", cwd=folder, env=alone)
        self.assertTrue((folder / "out.wav").is_file())
        text = run(own / "python", "-m", "encodec_hk", "--help", cwd=folder, env=alone)
        self.assertIn("infer", text)
        (folder / "mine.py").write_text(
            "from encodec_hk.configs import encodec_tiny\n\n\n"
            "def get_config():\n"
            "    config = encodec_tiny.get_config()\n"
            "    config.name = 'mine'\n"
            "    return config\n"
        )
        text = run(own / "encodec-hk", "describe", "--config=mine", cwd=folder, env=alone)
        self.assertStartsWith(text, "mine: 24000 Hz")


if __name__ == "__main__":
    absltest.main()
