"""Opus and MP3, the codecs to compare with, by the programs that are installed.

Opus is coded by opusenc and opusdec of opus-tools, or by ffmpeg with libopus where those are not;
MP3 by ffmpeg with LAME. All at a constant bit rate, with their encoders' best effort by default,
and aligned: the programs take off the delay of the codec and what fills up its last frame.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import functools
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from encodec_hk.evaluation import coders
from encodec_hk.evaluation import packets
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files

KINDS = ("opus", "mp3")

OPUS_SAMPLE_RATES = (8000, 12000, 16000, 24000, 48000)  # Hz that the codec itself knows
_OPUS_LEAST, _OPUS_MOST = 6, 256  # kbps of a channel, as opusenc takes them

_HELP = {
    "opus": "no opusenc and opusdec, nor ffmpeg with libopus: apt-get install opus-tools",
    "mp3": "no ffmpeg with libmp3lame: apt-get install ffmpeg",
}


class Baseline:
    """Opus or MP3 on signals of one rate and number of channels; see `coded.Coder`."""

    def __init__(
        self, kind: str, sample_rate: int, channels: int, asked: Sequence[float], name: str = ""
    ):
        """Finds the program, and the rates.

        Args:
          kind: one of `KINDS`.
          sample_rate: Hz of the signals. What the codec has no such rate for is resampled to the
            next one above that it has, and back.
          channels: C of the signals, 1 or 2.
          asked: kbps to choose rates by, see `sensible_rates`.
          name: instead of the kind.

        Raises:
          ValueError: the kind is unknown, the program is missing (the message names the command
            that installs it), or there are more channels.
        """
        if kind not in KINDS:
            raise ValueError(f"--baselines: got {kind!r}, must be of {', '.join(KINDS)}")
        if channels > 2:
            raise ValueError(f"{kind}: got {channels} channels, must be 1 or 2")
        tool = find_tool(kind)
        if tool is None:
            raise ValueError(f"{kind}: {_HELP[kind]}")
        self.name = name or kind
        self.sample_rate, self.channels = sample_rate, channels
        self._kind, (self._tool, self._version) = kind, tool
        offered = OPUS_SAMPLE_RATES if kind == "opus" else packets.MP3_SAMPLE_RATES
        self._coded_rate = min((rate for rate in offered if rate >= sample_rate), default=48000)
        self.rates = sensible_rates(kind, asked, self._coded_rate, channels)
        self.identity = f"{kind} {self._version} {sample_rate} {channels}"

    def facts(self) -> dict[str, object]:
        """See `coded.Coder`."""
        return {
            "kind": self._kind,
            "tool": self._version,
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "coded_sample_rate": self._coded_rate,
            "timed": "the program, its start and its files included",
        }

    def code(self, samples: np.ndarray, kbps: float) -> coders.Coded:
        """See `coded.Coder`. ValueError where the program fails."""
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
        if len(output) < length:  # a decoder that leaves out the end
            output = np.pad(output, ((0, length - len(output)), (0, 0)))
        payload = packets.opus_payload if self._kind == "opus" else packets.mp3_payload
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
        """What encodes and what decodes."""
        names = str(source), str(file), str(target)
        if self._tool == "opusenc":
            return (
                ["opusenc", "--quiet", "--hard-cbr", "--bitrate", f"{kbps:g}", *names[:2]],
                ["opusdec", "--quiet", "--float", "--rate", "48000", *names[1:]],
            )
        ffmpeg = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i"]
        codec = ["libopus", "-vbr", "off"] if self._kind == "opus" else ["libmp3lame"]
        rate = ["-b:a", f"{round(1000 * kbps)}"]
        return (
            [*ffmpeg, names[0], "-c:a", *codec, *rate, names[1]],
            [*ffmpeg, names[1], "-c:a", "pcm_f32le", names[2]],
        )


def sensible_rates(
    kind: str, asked: Sequence[float], sample_rate: int, channels: int
) -> tuple[float, ...]:
    """The rates in kbps to hold a codec of `asked` rates against.

    For every asked rate and its double, the rate itself where the codec has it, or the next one
    above that it has, unless that is more than twice as much. Where none is left, the lowest that
    the codec has. Opus has any from 6 kbps a channel on; MP3 has those of the standard's tables, of
    which the lowest are 8 kbps up to 24 kHz and 32 above.

    Args:
      kind: one of `KINDS`.
      asked: kbps.
      sample_rate: Hz that the codec works at.
      channels: of the signals.
    """
    wanted = sorted({factor * rate for rate in asked for factor in (1, 2)})
    if kind == "opus":
        least, most = float(_OPUS_LEAST * channels), float(_OPUS_MOST * channels)
        found = {max(float(rate), least) for rate in wanted if least / 2 <= rate <= most}
    else:
        table = packets.MP3_KBPS[sample_rate < 32000]
        least = float(table[0])
        above = [(rate, min((k for k in table if k >= rate), default=None)) for rate in wanted]
        found = {float(k) for rate, k in above if k is not None and k <= 2 * rate}
    return tuple(sorted(found or {least}))


@functools.cache
def find_tool(kind: str) -> tuple[str, str] | None:
    """The program that codes a kind, and its version in words; None where there is none."""
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
    """The first line that a program says of itself."""
    result = subprocess.run(command, capture_output=True, text=True)
    return ((result.stdout or result.stderr).splitlines() or [command[0]])[0]


def _run(command: list[str]) -> None:
    """Runs a program; ValueError with its last line where it fails."""
    result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
        raise ValueError(f"{command[0]}: {reason}")
