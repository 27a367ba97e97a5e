"""Packages of Debian as files: downloaded, checked and unpacked."""

from __future__ import annotations

import pathlib
import subprocess
import zipfile

from encodec_hk.system import file_paths


def find(name: str, deb_dir: pathlib.Path) -> pathlib.Path:
    """The one .deb file of a package in a folder; ValueError where there is not one."""
    found = sorted(deb_dir.glob(f"{name}_*.deb"))
    if len(found) != 1:
        raise ValueError(
            f"{file_paths.shown(deb_dir)}: has {len(found)} files {name}_*.deb, must be one"
        )
    return found[0]


def download(name: str, folder: pathlib.Path) -> pathlib.Path:
    """The .deb file of a package, by apt-get into a folder; ValueError where that fails."""
    print(f"{name}: downloading", flush=True)
    _command("apt-get", "download", name, cwd=folder.resolve())  # it checks the archive's hash
    return find(name, folder)


def version(name: str, deb: pathlib.Path) -> str:
    """The version of a .deb file; ValueError where it is not of this package."""
    found = _command("dpkg-deb", "--show", str(deb)).strip().split("\t")
    if found[0] != name:
        raise ValueError(f"{file_paths.shown(deb)}: is package {found[0]}, must be {name}")
    return found[-1]


def unpack(deb: pathlib.Path, root: pathlib.Path, archives: str) -> None:
    """Unpacks a .deb file to a folder, and the ZIP files in it of a suffix, "" for none.

    Raises:
      ValueError: the package or an archive in it is broken.
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
    """What a program prints; its error in one line where it fails."""
    try:
        result = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ValueError(f"{arguments[0]}: not found; this needs Debian or a derivative") from error
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if not line.startswith("W:")]
        reason = lines[0] if lines else f"exit status {result.returncode}"
        raise ValueError(f"{' '.join(arguments[:2])} {pathlib.Path(arguments[2]).name}: {reason}")
    return result.stdout
