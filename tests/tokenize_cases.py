"""Sounds in every form that tokenize reads, and what it should make of them."""

import functools
import io
import json
import os
import pathlib
import signal
import tarfile
import tempfile
import threading
import time

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

import encodec_hk
from encodec_hk.sound import resampling
from encodec_hk.tokens import shard_work
from encodec_hk.tokens import tokenize_job
from tests import infer_cases

CLIPS = sorted((infer_cases.REPOSITORY / "assets" / "clips").glob("*.flac"))


@functools.cache
def codec() -> encodec_hk.Codec:
    """Return a tiny codec of 24 kHz with 4 places."""
    return infer_cases.make_codec("encodec_24khz", batch_size=4)


@functools.cache
def segment_codec() -> encodec_hk.Codec:
    """Return a tiny codec of 48 kHz stereo with segments and scales."""
    return infer_cases.make_codec("encodec_48khz", batch_size=4, **infer_cases.SEGMENTS)


def clip(index: int, seconds: float = 2.0) -> tuple[np.ndarray, int]:
    """Return the start of a shipped clip, float32 [T, C], and its sample rate."""
    samples, rate = soundfile.read(CLIPS[index % len(CLIPS)], dtype="float32", always_2d=True)
    return samples[: round(seconds * rate)], rate


def write_clips(folder: pathlib.Path, count: int, suffix: str = ".flac", *, channels: int = 1):
    """Write parts of shipped clips, of different lengths, as 00.flac and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        samples, rate = clip(index, 0.3 + 0.35 * (index * 7 % 5))
        samples = samples[:, :1] * np.float32([0.9**channel for channel in range(channels)])
        soundfile.write(folder / f"{index:02}{suffix}", samples, rate)


def write_av(path: pathlib.Path, samples: np.ndarray, rate: int) -> None:
    """Write m4a (AAC) or webm (Opus) with PyAV."""
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    name = "aac" if path.suffix == ".m4a" else "libopus"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(name, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", layout)
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(
            stream.format.name, layout, rate, frame_size=stream.frame_size or 1024
        )
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def content(samples: np.ndarray, rate: int, suffix: str = ".flac") -> bytes:
    """Return the bytes of a sound file."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, f"a{suffix}")
        write_sound(path, samples, rate)
        return path.read_bytes()


def write_sound(path: pathlib.Path, samples: np.ndarray, rate: int) -> None:
    """Write a sound file of any suffix; Opus at 24 kHz, whatever the rate."""
    if path.suffix in (".m4a", ".webm"):
        write_av(path, samples, rate)
    elif path.suffix == ".opus":
        soundfile.write(path, samples, 24000, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, samples, rate)


def write_tar(path: pathlib.Path, count: int, suffix: str = ".flac") -> None:
    """Write a WebDataset tar: for each clip, 00.flac, 00.json and 00.txt."""
    with tarfile.open(path, "w") as tar:
        for index in range(count):
            members = {
                suffix[1:]: content(*clip(index, 0.5 + 0.1 * index), suffix),
                "json": json.dumps({"speaker": index}).encode(),
                "txt": f"text {index}\n".encode(),
            }
            for kind, data in members.items():
                member = tarfile.TarInfo(f"{index:02}.{kind}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def write_parquet(path: pathlib.Path, count: int, suffix: str = ".flac") -> None:
    """Write a Parquet file as the `datasets` library does, two rows to a group."""
    sounds = [
        {"bytes": content(*clip(index, 0.5 + 0.1 * index), suffix), "path": f"{index}{suffix}"}
        for index in range(count)
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            "audio": pa.array(sounds, kind),
            "text": [f"text {index}" for index in range(count)],
            "speaker": pa.array(range(count), pa.int16()),
        }
    )
    pq.write_table(table, path, row_group_size=2)


def job(inputs, output, codec_of_test=None, *, extend=False, **options):
    """Return a job with shards of a few files."""
    options = {"shard_hours": 1 / 3600, **options}
    return tokenize_job.TokenizeJob(
        codec_of_test or codec(),
        str(inputs),
        str(output),
        tokenize_job.TokenizeOptions(**options),
        licence="MIT",
        extend=extend,
    )


def job_of_worker(inputs, output, *, dies=False):
    """Make a job, in a worker; one of them kills itself soon after the first receipt."""
    if dies:
        threading.Thread(target=_die, args=(pathlib.Path(output),), daemon=True).start()
    return job(inputs, output)


def _die(output):
    while not list(output.glob(".tokenize/receipts/*.json")):
        time.sleep(0.01)
    with open(output / "died", "a") as file:
        if not file.tell():
            file.write("died")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)


def run(own_job, *, shards=None, limit="1%", **settings):
    """Run a job in this process; return the results of its shards."""
    found = []
    tokenizer = own_job.tokenizer(shard_work.ErrorLimit(limit), **settings)
    tokenizer.run(range(own_job.plan.num_shards) if shards is None else shards, found.append)
    return found


def rows(output: pathlib.Path) -> list[dict]:
    """Return all rows of a data set, in the order of its files."""
    return [row for path in files(output) for row in pq.read_table(path).to_pylist()]


def files(output: pathlib.Path) -> list[pathlib.Path]:
    """Return the files of a data set."""
    return sorted((output / "data").glob("*.parquet"))


def contents(output: pathlib.Path) -> dict[str, bytes]:
    """Return the bytes of the files of a data set, by name."""
    return {path.name: path.read_bytes() for path in files(output)}


def encode_alone(samples: np.ndarray, rate: int, own_codec=None):
    """Return what `Codec.encode` makes of samples [T, C] alone: codes [K, F], and scales."""
    own_codec = own_codec or codec()
    mixed = resampling.mix(samples, own_codec.channels)
    encoded = own_codec.encode([resampling.resample(mixed, rate, own_codec.sample_rate)])
    return encoded.codes[0], None if encoded.scales is None else encoded.scales[0]
