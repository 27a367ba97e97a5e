"""Opus and MP3 as coders, by the programs that are installed.

Opus takes opusenc and opusdec of opus-tools, or else ffmpeg with libopus; MP3 takes ffmpeg with
LAME. The bitrate is constant, other options are the encoders' defaults. Outputs are aligned with
inputs: the programs remove the codec's delay and the padding of its last frame.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import collections
import functools
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from encodec_hk.evaluation import coders
from encodec_hk.evaluation import payloads
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files

KINDS = ("opus", "mp3")

_OPUS_SAMPLE_RATES = (8000, 12000, 16000, 24000, 48000)  # Hz, without resampling inside Opus
_OPUS_LEAST, _OPUS_MOST = 6, 256  # kbps per channel that opusenc accepts

_HELP = {
    "opus": "no opusenc and opusdec, nor ffmpeg with libopus: apt-get install opus-tools",
    "mp3": "no ffmpeg with libmp3lame: apt-get install ffmpeg",
}


class Baseline:
    """Opus or MP3 for one sample rate and number of channels; see `coders.EvaluationCoder`."""

    def __init__(
        self, kind: str, sample_rate: int, channels: int, asked: Sequence[float], name: str = ""
    ):
        """Find the program and choose the bitrates, from the `asked` kbps of the models.

        Signals of a sample rate (Hz) that the codec lacks are resampled to its next higher one, and
        back. The name in the results is the kind by default.

        Raises:
          ValueError: if the kind is unknown, there are more than 2 channels, or the program is
            missing (the message names the command that installs it).
        """
        check_kinds([kind])
        if channels > 2:
            raise ValueError(f"{kind}: got {channels} channels, must be 1 or 2")
        tool = find_tool(kind)
        if tool is None:
            raise ValueError(f"{kind}: {_HELP[kind]}")
        self.name = name or kind
        self.sample_rate, self.channels = sample_rate, channels
        self._kind, (self._tool, self._version) = kind, tool
        offered = _OPUS_SAMPLE_RATES if kind == "opus" else payloads.MP3_SAMPLE_RATES
        self._coded_rate = min((rate for rate in offered if rate >= sample_rate), default=48000)
        self.bitrates = sensible_bitrates(kind, asked, self._coded_rate, channels)
        self.identity = f"{kind} {self._version} {sample_rate} {channels}"

    def facts(self) -> dict[str, object]:
        """See `coders.EvaluationCoder`."""
        return {
            "kind": self._kind,
            "tool": self._version,
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "coded_sample_rate": self._coded_rate,
            "timed": "the program, with its start and its files",
        }

    def code(self, samples: np.ndarray, kbps: float) -> coders.Coded:
        """See `coders.EvaluationCoder`."""
        length = len(samples)
        resampled = resampling.resample(samples, self.sample_rate, self._coded_rate)
        with tempfile.TemporaryDirectory(prefix="encodec_hk-") as name:
            folder = pathlib.Path(name)
            source, target = folder / "in.wav", folder / "out.wav"
            file = folder / f"coded.{self._kind}"
            sound_files.write(source, resampled, self._coded_rate, "float32")
            encode, decode = self._commands(source, file, target, kbps)
            started = time.perf_counter()
            _run(encode)
            between = time.perf_counter()
            _run(decode)
            ended = time.perf_counter()
            data = file.read_bytes()
            decoded = sound_files.read(target)
        output = resampling.resample(decoded.samples, decoded.sample_rate, self.sample_rate, length)
        output = np.pad(output, ((0, length - len(output)), (0, 0)))  # some decoders drop the end
        payload = payloads.opus_payload if self._kind == "opus" else payloads.mp3_payload
        return coders.Coded(
            samples=output,
            payload_bytes=payload(data),
            total_bytes=len(data),
            encode_seconds=between - started,
            decode_seconds=ended - between,
        )

    def _commands(
        self, source: pathlib.Path, file: pathlib.Path, target: pathlib.Path, kbps: float
    ) -> tuple[list[str], list[str]]:
        """Return the commands that encode source to file, and decode file to target."""
        names = str(source), str(file), str(target)
        if self._tool == "opusenc":
            return (
                ["opusenc", "--quiet", "--hard-cbr", "--bitrate", f"{kbps:g}", *names[:2]],
                ["opusdec", "--quiet", "--float", "--rate", "48000", *names[1:]],
            )
        ffmpeg = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i"]
        codec = ["libopus", "-vbr", "off"] if self._kind == "opus" else ["libmp3lame"]
        bitrate = ["-b:a", f"{round(1000 * kbps)}"]
        return (
            [*ffmpeg, names[0], "-c:a", *codec, *bitrate, names[1]],
            [*ffmpeg, names[1], "-c:a", "pcm_f32le", names[2]],
        )


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise ValueError unless all kinds are of `KINDS`."""
    for kind in kinds:
        if kind not in KINDS:
            allowed = ", ".join(KINDS)
            raise ValueError(
                f"--baselines: got {kind!r}, must be one of {allowed}, or empty for none"
            )


def make_all(
    models: Sequence[coders.EvaluationCoder], kinds: Sequence[str], bitrates: Sequence[float] | None
) -> tuple[list[Baseline], list[str]]:
    """Return the baselines for each sample rate and number of channels of the models.

    The bitrates are the kbps that the user asked for; None takes those of the models. The second
    result has a line on each baseline that is not available.
    """
    forms: dict[tuple[int, int], list[float]] = collections.defaultdict(list)
    for model in models:
        forms[model.sample_rate, model.channels] += model.bitrates
    found, missing = [], []
    for kind in dict.fromkeys(kinds):
        for (sample_rate, channels), own in forms.items():
            name = f"{kind} {sample_rate / 1000:g} kHz" if len(forms) > 1 else kind
            if [rate for rate, _ in forms].count(sample_rate) > 1:
                name += f" x{channels}"
            try:
                found.append(Baseline(kind, sample_rate, channels, bitrates or own, name))
            except ValueError as error:
                missing.append(str(error))
    return found, list(dict.fromkeys(missing))


def sensible_bitrates(
    kind: str, asked: Sequence[float], sample_rate: int, channels: int
) -> tuple[float, ...]:
    """Return the bitrates of a baseline to compare with models at the `asked` bitrates, in kbps.

    For each asked bitrate and its double, take it or the baseline's next higher one, unless that is
    more than twice as high; if none is left, take the baseline's lowest. Opus has every bitrate
    from 6 kbps per channel; MP3 has those of the standard's tables, from 8 kbps at sample rates up
    to 24 kHz and from 32 above.
    """
    wanted = sorted({factor * kbps for kbps in asked for factor in (1, 2)})
    if kind == "opus":
        least, most = float(_OPUS_LEAST * channels), float(_OPUS_MOST * channels)
        found = {max(float(kbps), least) for kbps in wanted if least / 2 <= kbps <= most}
    else:
        table = payloads.MP3_KBPS[sample_rate < 32000]
        least = float(table[0])
        above = [(kbps, min((k for k in table if k >= kbps), default=None)) for kbps in wanted]
        found = {float(k) for kbps, k in above if k is not None and k <= 2 * kbps}
    return tuple(sorted(found or {least}))


@functools.cache
def find_tool(kind: str) -> tuple[str, str] | None:
    """Return the program for a kind and a description of its version; None if not installed."""
    if kind == "opus" and shutil.which("opusenc") and shutil.which("opusdec"):
        return "opusenc", _version(["opusenc", "--version"])
    encoder = {"opus": "libopus", "mp3": "libmp3lame"}[kind]
    if shutil.which("ffmpeg") is None:
        return None
    listed = subprocess.run(["ffmpeg", "-v", "error", "-encoders"], capture_output=True, text=True)
    if encoder not in listed.stdout.split():
        return None
    version = " ".join(_version(["ffmpeg", "-version"]).split()[:3])
    return "ffmpeg", f"{version}, {encoder}"


def _version(command: list[str]) -> str:
    """Return the first line that a version command prints."""
    result = subprocess.run(command, capture_output=True, text=True)
    return ((result.stdout or result.stderr).splitlines() or [command[0]])[0]


def _run(command: list[str]) -> None:
    """Run a program; raise ValueError with its last line if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
        raise ValueError(f"{command[0]}: {reason}")
