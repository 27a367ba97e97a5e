"""Make a free training set from Debian packages: speech, music and effects of games.

    python -m encodec_hk.datasets.debian OUT [--packages=NAME,NAME] [--deb_dir=FOLDER]

Downloads each package with apt-get, or takes the .deb files of --deb_dir. Writes the sounds as
16-bit FLAC to OUT/train/SOURCE/ and OUT/heldout/SOURCE/, a table of the sources to OUT/SOURCES.md,
and the packages' copyright statements to OUT/licences/. Sources are held out whole: no speaker's
language and no composer's album is in both parts. Nearly all sounds were stored as Vorbis.

The same command again resumes an interrupted one. The packages are those of Debian 12; they take
about 1 GB to download and 1 GB to store.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import soundfile
import tqdm

from encodec_hk.datasets import deb_archive
from encodec_hk.datasets import debian_packages
from encodec_hk.sound import file_formats
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.system import machine
from encodec_hk.system import part_file
from encodec_hk.system import rules

_SHORTEST = 0.3  # seconds; shorter files are left out
_QUIETEST = 0.01  # peak; quieter files are left out
_THREADS = min(4, machine.num_cores())  # each may hold a piece of music of 300 MB
_RECORDS = "sources.json"


class _Format(NamedTuple):
    sample_rate: int
    channels: int


class _Group(NamedTuple):
    """The files of one source, in the order in which they are used."""

    split: str
    source: str
    minutes: float
    files: list[pathlib.Path]


def build(
    out: pathlib.Path,
    packages: Iterable[debian_packages.Package],
    *,
    deb_dir: pathlib.Path | None = None,
    sample_rate: int = 24000,
    channels: int = 1,
) -> None:
    """Make the data set, or the missing part of it.

    Args:
      out: the folder, created if missing.
      packages: the packages to use.
      deb_dir: folder of the .deb files; None downloads them.
      sample_rate: Hz, of the data set.
      channels: of the data set; see `resampling.mix`.

    Raises:
      ValueError: if a program is missing, a package is unknown or broken, or OUT was made with
        another rate or number of channels.
      OSError: if a file cannot be written.
    """
    file_formats.check_writable(out / "NAME.flac", sample_rate, channels)
    out.mkdir(parents=True, exist_ok=True)
    format = _Format(sample_rate, channels)
    records = _read_records(out)
    for package in packages:
        if package.name in records:
            record = records[package.name]
            _check_format(out, _Format(record["sample_rate"], record["channels"]), format)
            print(f"{package.name}: already done", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix=".partial_", dir=out) as temporary:
            record = _add_package(package, deb_dir, out, format, pathlib.Path(temporary))
        records[package.name] = record
        part_file.write(out / _RECORDS, f"{json.dumps(records, indent=2)}\n".encode())
        part_file.write(out / "SOURCES.md", _table(records).encode())
        for name, (files, minutes) in record["sources"].items():
            print(f"{package.name}: {name}: {files} files, {minutes:.1f} minutes", flush=True)


def _read_records(out: pathlib.Path) -> dict:
    path = out / _RECORDS
    with file_errors.as_value_error(path, ValueError):
        return json.loads(path.read_text()) if path.exists() else {}


def _check_format(path: pathlib.Path, made: _Format, asked: _Format) -> None:
    if made != asked:
        raise ValueError(
            f"{file_paths.shown(path)}: made with {made[0]} Hz and {made[1]} channels, asked for "
            f"{asked[0]} and {asked[1]}: name another OUT"
        )


def _add_package(
    package: debian_packages.Package,
    deb_dir: pathlib.Path | None,
    out: pathlib.Path,
    format: _Format,
    temporary: pathlib.Path,
) -> dict:
    """Add the sounds of a package to the data set, and return its record."""
    if deb_dir:
        path = deb_archive.find(package.name, deb_dir)
    else:
        path = deb_archive.download(package.name, temporary)
    version = deb_archive.version(package.name, path)
    root = temporary / "unpacked"
    deb_archive.unpack(path, root, package.archives)
    groups = _group(package, root)
    num_files = sum(len(group.files) for group in groups)
    is_hidden = not sys.stderr.isatty()
    with tqdm.tqdm(total=num_files, desc=package.name, unit="file", disable=is_hidden) as bar:
        for group in groups:
            target = out / group.split / group.source
            if target.exists():
                bar.update(len(group.files))
                continue
            part = temporary / group.source
            part.mkdir()
            if _convert(group, root, part, format, bar):
                target.parent.mkdir(exist_ok=True)
                os.replace(part, target)
    statement = root / "usr/share/doc" / package.name / "copyright"
    if statement.is_file():
        (out / "licences").mkdir(exist_ok=True)
        shutil.copyfile(statement, out / "licences" / f"{package.name}.txt")
    return {
        "version": version,
        "kind": package.kind,
        "licence": package.licence,
        **format._asdict(),
        "sources": _measure(out, groups, format),
    }


def _group(package: debian_packages.Package, root: pathlib.Path) -> list[_Group]:
    """Group the sound files of a package by source, as its rules say."""
    groups: dict[tuple[str, str, float], list[pathlib.Path]] = collections.defaultdict(list)
    for path in root.rglob("*"):
        inside = f"/{path.relative_to(root).as_posix()}"
        is_sound = path.suffix.lower() in file_formats.READABLE
        if not is_sound or path.is_symlink() or not path.is_file():
            continue
        for rule in package.rules:
            match = re.search(rule.pattern, inside)
            if match:
                if rule.source is not None:
                    groups[rule.split, match.expand(rule.source), rule.minutes].append(path)
                break

    def order(path: pathlib.Path) -> bytes:
        # A hash spreads the first minutes over the package, equally on every machine.
        name = f"{package.key}/{path.relative_to(root).as_posix()}"
        return hashlib.sha256(name.encode()).digest()

    return [_Group(*key, sorted(files, key=order)) for key, files in sorted(groups.items())]


def _convert(
    group: _Group, root: pathlib.Path, folder: pathlib.Path, format: _Format, bar: tqdm.tqdm
) -> bool:
    """Write the sounds of one source to a folder, and return whether there are any."""

    def convert(job: tuple[pathlib.Path, pathlib.Path]) -> float:
        """Convert a file and return its seconds, 0 if it is left out."""
        source, path = job
        try:
            found = sound_files.read(source)
        except ValueError as error:
            tqdm.tqdm.write(f"{error}; left out", file=sys.stderr)
            return 0.0
        samples = resampling.mix(found.samples, format.channels)
        samples = resampling.resample(samples, found.sample_rate, format.sample_rate)
        seconds = len(samples) / format.sample_rate
        if seconds < _SHORTEST or np.abs(samples).max() <= _QUIETEST:
            return 0.0
        sound_files.write(path, samples, format.sample_rate)
        return seconds

    jobs = [(path, folder / name) for path, name in _names(group.files, root).items()]
    taken = 0.0
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(jobs), 4 * _THREADS):
            batch = jobs[start : start + 4 * _THREADS]
            for (_, path), seconds in zip(batch, pool.map(convert, batch), strict=True):
                if taken < 60 * group.minutes:
                    taken += seconds
                else:
                    path.unlink(missing_ok=True)
                bar.update()
            if taken >= 60 * group.minutes:
                bar.update(len(jobs) - start - len(batch))
                break
    return taken > 0


def _names(files: Sequence[pathlib.Path], root: pathlib.Path) -> dict[pathlib.Path, str]:
    """Name each file by the last parts of its path; no name comes twice."""
    names: dict[pathlib.Path, str] = {}
    for path in files:
        parts = [p for p in path.relative_to(root).parts if p not in ("usr", "share", "games")]
        stem = "-".join(parts[-4:]).replace(" ", "_").rsplit(".", 1)[0]
        name, number = f"{stem}.flac", 2
        while name in names.values():
            name, number = f"{stem}_{number}.flac", number + 1
        names[path] = name
    return names


def _measure(
    out: pathlib.Path, groups: Sequence[_Group], format: _Format
) -> dict[str, tuple[int, float]]:
    """Return the number of files and minutes of each source, from the headers of its files."""
    measured = {}
    for name in (f"{group.split}/{group.source}" for group in groups):
        seconds = []
        for path in (out / name).glob("*.flac"):
            found = soundfile.info(str(path))
            _check_format(path, _Format(found.samplerate, found.channels), format)
            seconds.append(found.frames / found.samplerate)
        if seconds:
            measured[name] = (len(seconds), sum(seconds) / 60)
    return measured


def _table(records: dict) -> str:
    """Return the content of SOURCES.md."""
    lines = [
        "# Sources",
        "",
        "Sounds of Debian packages, changed: resampled, mixed, and stored as 16-bit FLAC.",
        "The licences are those of the packages; their statements are in `licences/`.",
        "",
        "| Folder | Files | Minutes | Content | Package, version | Licence |",
        "|---|---|---|---|---|---|",
    ]
    rows = []
    for name, record in records.items():
        end = f"{record['kind']} | {name} {record['version']} | {record['licence']}"
        for folder, (files, minutes) in record["sources"].items():
            rows.append(f"| {folder} | {files} | {minutes:.1f} | {end} |")
    return "\n".join(lines + sorted(rows)) + "\n"


def _choose(names: str | None) -> list[debian_packages.Package]:
    """Return the packages of a list with commas; all for None."""
    if names is None:
        return list(debian_packages.PACKAGES)
    known = {package.name: package for package in debian_packages.PACKAGES}
    for name in names.split(","):
        if name not in known:
            raise rules.error("--packages", name, f"one of {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="debian", description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("out", type=pathlib.Path, metavar="OUT", help="folder of the data set")
    parser.add_argument("--packages", help="names with commas between; all by default")
    parser.add_argument(
        "--deb_dir", type=pathlib.Path, help="folder of .deb files, to download none"
    )
    parser.add_argument("--sample_rate", type=int, default=24000, help="Hz")
    parser.add_argument("--channels", type=int, default=1)
    flags = parser.parse_args(arguments)
    try:
        build(
            flags.out,
            _choose(flags.packages),
            deb_dir=flags.deb_dir,
            sample_rate=flags.sample_rate,
            channels=flags.channels,
        )
    except (ValueError, OSError) as error:
        print(f"debian: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("debian: interrupted; run the same command to resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
