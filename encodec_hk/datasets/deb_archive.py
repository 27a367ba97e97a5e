"""Download, check and unpack Debian packages."""

from __future__ import annotations

import pathlib
import subprocess
import zipfile

from encodec_hk.system import file_paths


def find(name: str, deb_dir: pathlib.Path) -> pathlib.Path:
    """Return the .deb file of a package in a folder; raises ValueError unless there is one."""
    found = sorted(deb_dir.glob(f"{name}_*.deb"))
    if len(found) != 1:
        raise ValueError(
            f"{file_paths.shown(deb_dir)}: has {len(found)} files {name}_*.deb, must have one"
        )
    return found[0]


def download(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Download a package into a folder and return its .deb file; raises ValueError if it fails."""
    print(f"{name}: downloading", flush=True)
    _command("apt-get", "download", name, cwd=folder.resolve())  # checks the hash too
    return find(name, folder)


def version(name: str, deb: pathlib.Path) -> str:
    """Return the version of a .deb file; raises ValueError if it is of another package."""
    found = _command("dpkg-deb", "--show", str(deb)).strip().split("\t")
    if found[0] != name:
        raise ValueError(f"{file_paths.shown(deb)}: is package {found[0]}, must be {name}")
    return found[-1]


def unpack(deb: pathlib.Path, root: pathlib.Path, archives: str) -> None:
    """Unpack a .deb file into a folder, and the ZIP archives in it.

    Args:
      deb: the file.
      root: the folder.
      archives: suffix of the ZIP archives; "" leaves them packed.

    Raises:
      ValueError: if the package or an archive is broken.
    """
    _command("dpkg-deb", "-x", str(deb), str(root))
    if not archives:
        return
    for path in sorted(root.rglob(f"*{archives}")):
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(path.with_suffix(""))
        except zipfile.BadZipFile as error:
            raise ValueError(f"{file_paths.shown(path.name)}: {error}") from error


def _command(*arguments: str, cwd: pathlib.Path | None = None) -> str:
    """Return the output of a program; raises ValueError with one line of its errors if it fails."""
    try:
        result = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ValueError(f"{arguments[0]}: not found; this needs Debian or a derivative") from error
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if not line.startswith("W:")]
        reason = lines[0] if lines else f"exit status {result.returncode}"
        raise ValueError(f"{' '.join(arguments[:2])} {pathlib.Path(arguments[2]).name}: {reason}")
    return result.stdout
