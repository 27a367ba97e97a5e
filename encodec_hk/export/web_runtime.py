"""ONNX Runtime for browsers: the package onnxruntime-web, of the version that the page pins."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator

from encodec_hk.system import file_errors
from encodec_hk.system import file_paths

PACKAGE = "onnxruntime-web"

# WebAssembly on the CPU alone, and the names that the page gives them: not every file server knows
# that .mjs is JavaScript.
_FILES = {
    "dist/ort.wasm.min.mjs": "ort.wasm.min.js",
    "dist/ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.js",
    "dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
}
_MANIFEST = "package.json"
# The package holds no text of its licence, which its package.json names.
_LICENCE = """\
onnxruntime-web {version} (ONNX Runtime), https://github.com/microsoft/onnxruntime
The projects that it contains: ThirdPartyNotices.txt in that repository.

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def pinned() -> tuple[str, str]:
    """Return the version of the package, and the hash of its archive, as npm writes it."""
    manifest = json.loads((file_paths.shipped("docs/web") / _MANIFEST).read_text("utf-8"))
    return manifest["dependencies"][PACKAGE], manifest["integrity"][PACKAGE]


def write(folder: pathlib.Path, package: pathlib.Path | None = None) -> None:
    """Fill an empty folder with what the page needs of the package, and its licence.

    Args:
      folder: the folder.
      package: a folder with the unpacked package; None to fetch it with npm.

    Raises:
      ValueError: there is no npm, it fails, or the package is another one.
    """
    version, integrity = pinned()
    with contextlib.ExitStack() as stack:
        if package is None:
            package = stack.enter_context(_fetched(version, integrity))
        else:
            _check(package, version)
        for source, name in _FILES.items():
            with file_errors.as_value_error(package / source):
                shutil.copyfile(package / source, folder / name)
    (folder / "LICENSE.txt").write_text(_LICENCE.format(version=version), "utf-8")


def _check(package: pathlib.Path, version: str) -> None:
    try:
        manifest = json.loads((package / _MANIFEST).read_text("utf-8"))
        found = f"{manifest['name']} {manifest['version']}"
    except (OSError, ValueError, KeyError, TypeError):
        found = "no npm package"
    if found != f"{PACKAGE} {version}":
        raise ValueError(f"runtime: {package} holds {found}, must hold {PACKAGE} {version}")


@contextlib.contextmanager
def _fetched(version: str, integrity: str) -> Iterator[pathlib.Path]:
    """Yield a folder with the files of the package, whose archive has this hash."""
    name = f"{PACKAGE}@{version}"
    other = f"--runtime=FOLDER takes {name} unpacked"
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(f"web: npm, which fetches {name}, is not installed; {other}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        done = subprocess.run(
            [npm, "pack", "--loglevel=error", "--fetch-retries=1", name],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        archives = list(folder.glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            reason = lines[0].removeprefix("npm error ")
            raise ValueError(f"web: npm pack {name} failed ({reason}); {other}")
        algorithm, _, expected = integrity.partition("-")
        with open(archives[0], "rb") as file:
            digest = base64.b64encode(hashlib.file_digest(file, algorithm).digest()).decode()
        if digest != expected:
            raise ValueError(f"web: {name} has the {algorithm} {digest}, must be {expected}")
        with tarfile.open(archives[0]) as archive:
            for source in _FILES:
                archive.extract(f"package/{source}", folder, filter="data")
        yield folder / "package"
