"""Sound on pipes: raw samples, valid and wrong WAV headers, in pieces of any size."""

import io
import pathlib
import struct
import tempfile
import tracemalloc
from typing import Any
from unittest import mock

import numpy as np
import soundfile
from absl.testing import absltest
from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st

from encodec_hk.sound import pcm
from encodec_hk.sound import truncation
from encodec_hk.system import interruption

# libsndfile's names for the raw formats.
SUBTYPES = {"s16le": "PCM_16", "s24le": "PCM_24", "s32le": "PCM_32", "f32le": "FLOAT"}
BITS = {"s16le": 16, "s24le": 24, "s32le": 32}
UNKNOWN = 0xFFFFFFFF


class Pieces(io.BytesIO):
    """A pipe that returns few bytes per call and notes how many were requested."""

    def __init__(self, data: bytes, sizes: Any = None) -> None:
        super().__init__(data)
        self._sizes = sizes
        self.most = 0

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        self.most = max(self.most, size)
        return super().read(size if self._sizes is None else min(size, next(self._sizes)))


def noise(length: int, channels: int = 1) -> np.ndarray:
    """Return samples [T, C] that every format can hold, with the extremes."""
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (length, channels))
    samples[:1], samples[1:2] = -(2**15), 2**15 - 1
    return (samples / 2**15).astype(np.float32)


def written(samples: np.ndarray, subtype: str, container: str = "WAV", rate: int = 24000) -> bytes:
    """Return the bytes of a file written by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=container)
    return file.getvalue()


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    """Return a chunk of a WAV file, padded to an even length."""
    return (
        name + struct.pack("<I", len(data) if size is None else size) + data + len(data) % 2 * b"\0"
    )


def fmt(
    rate: int = 24000, channels: int = 1, bits: int = 16, kind: int = 1, unit: int | None = None
) -> bytes:
    """Return the chunk `fmt `."""
    unit = channels * bits // 8 if unit is None else unit
    fields = struct.pack("<HHIIHH", kind, channels, rate, rate * unit % 2**32, unit, bits)
    return chunk(b"fmt ", fields)


def wav(*chunks: bytes, size: int = UNKNOWN, name: bytes = b"RIFF") -> bytes:
    return name + struct.pack("<I", size) + b"WAVE" + b"".join(chunks)


def drain(reader: pcm.PcmReader, size: int = 1000) -> np.ndarray:
    """Read all samples; every read returns 1 to `size`, and none at the end."""
    parts = [np.zeros((0, reader.channels), np.float32)]
    while len(samples := reader.read(size)):
        assert samples.dtype == np.float32
        assert len(samples) <= size
        parts.append(samples)
    assert reader.read(size).shape == (0, reader.channels)
    return np.concatenate(parts)


def read(data: bytes, format: pcm.Format | None = None) -> tuple[np.ndarray, int]:
    reader = pcm.PcmReader(io.BytesIO(data), format)
    return drain(reader), reader.sample_rate


class SamplesTest(parameterized.TestCase):
    @parameterized.product(raw_format=tuple(SUBTYPES), channels=(1, 2, 3))
    def test_round_trip(self, raw_format: str, channels: int) -> None:
        samples = noise(50, channels)
        data = pcm.encode(samples, raw_format)
        form = pcm.Format(24000, channels, raw_format)
        self.assertLen(data, 50 * form.frame_bytes)
        found = pcm.decode(data, raw_format, channels)
        self.assertEqual(found.dtype, np.float32)
        np.testing.assert_array_equal(found, samples)

    @parameterized.parameters(*SUBTYPES)
    def test_no_samples(self, raw_format: str) -> None:
        self.assertEqual(pcm.encode(np.zeros((0, 2), np.float32), raw_format), b"")
        self.assertEqual(pcm.decode(b"", raw_format, 2).shape, (0, 2))

    @parameterized.parameters(BITS.items())
    def test_integers_clip(self, raw_format: str, bits: int) -> None:
        samples = np.array([[-1.5, -1.0, 0.0, 1.0, 1e30, -np.inf]], np.float32)
        data = pcm.encode(samples.T, raw_format)
        size = bits // 8
        found = [
            int.from_bytes(data[at : at + size], "little", signed=True)
            for at in range(0, len(data), size)
        ]
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        self.assertEqual(found, [low, low, 0, high, high, low])
        decoded = pcm.decode(data, raw_format, 1)
        self.assertLessEqual(np.abs(decoded).max(), 1)

    def test_floats_do_not_clip(self) -> None:
        samples = np.array([[-1.5], [1e30], [2.0**-149]], np.float32)
        np.testing.assert_array_equal(pcm.decode(pcm.encode(samples, "f32le"), "f32le", 1), samples)

    @parameterized.parameters(BITS.items())
    def test_integers_round_to_nearest(self, raw_format: str, bits: int) -> None:
        step = 2.0 ** -(bits - 1)
        samples = np.array([[0.4 * step], [0.6 * step], [-0.4 * step], [-0.6 * step]])
        found = pcm.decode(pcm.encode(samples, raw_format), raw_format, 1)
        np.testing.assert_array_equal(found / step, [[0], [1], [0], [-1]])

    @parameterized.product(raw_format=tuple(SUBTYPES), channels=(1, 2))
    def test_equals_libsndfile(self, raw_format: str, channels: int) -> None:
        samples = np.random.default_rng(1).uniform(-1, 1, (50, channels)).astype(np.float32)
        data = written(samples, SUBTYPES[raw_format], "RAW")
        found = pcm.decode(data, raw_format, channels)
        settings = {"format": "RAW", "subtype": SUBTYPES[raw_format], "endian": "LITTLE"}
        expected, _ = soundfile.read(
            io.BytesIO(data), dtype="float32", always_2d=True, samplerate=24000,
            channels=channels, **settings,
        )  # fmt: skip
        np.testing.assert_array_equal(found, expected)


class WavTest(parameterized.TestCase):
    @parameterized.product(
        subtype=tuple(SUBTYPES.values()),
        container=("WAV", "WAVEX", "RF64"),
        channels=(1, 2, 6),
        length=(0, 1, 501),
    )
    def test_files_by_libsndfile(
        self, subtype: str, container: str, channels: int, length: int
    ) -> None:
        data = written(noise(length, channels), subtype, container, 44100)
        found, rate = read(data)
        self.assertEqual(rate, 44100)
        np.testing.assert_array_equal(found, noise(length, channels))

    @parameterized.product(container=("WAV", "RF64"), subtype=("PCM_16", "FLOAT"))
    def test_text_after_the_samples_is_not_sound(self, container: str, subtype: str) -> None:
        """libsndfile writes titles and comments after the samples."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "a.wav")
            with soundfile.SoundFile(path, "w", 8000, 1, subtype, format=container) as file:
                file.title = "odd"
                file.write(noise(51))
                file.comment = "a line of text at the end"
            data = path.read_bytes()
        self.assertIn(b"a line of text", data)
        np.testing.assert_array_equal(read(data)[0], noise(51))

    @parameterized.parameters(0, 1, 7, 26, 65535)
    def test_chunks_before_the_samples(self, size: int) -> None:
        other = chunk(b"LIST", bytes(size))
        sound = chunk(b"data", pcm.encode(noise(9), "s16le"))
        for data in (wav(other, fmt(), sound), wav(fmt(), other, other, sound)):
            np.testing.assert_array_equal(read(data)[0], noise(9))

    @parameterized.parameters(1, 2, 7, 9)
    def test_chunks_after_the_samples(self, length: int) -> None:
        data = wav(fmt(bits=24), chunk(b"data", pcm.encode(noise(length), "s24le")))
        found, _ = read(data + chunk(b"LIST", b"this is no sound"))
        np.testing.assert_array_equal(found, noise(length))

    @parameterized.product(
        size=(0, UNKNOWN, 0x7FFFFFFF, 0x7FFFFF00, 0x7FFFF000), riff=(0, 36, UNKNOWN)
    )
    def test_unknown_length(self, size: int, riff: int) -> None:
        """ffmpeg, arecord and SoX write such headers into pipes."""
        sound = chunk(b"data", pcm.encode(noise(3000), "s16le"), size)
        found, _ = read(wav(fmt(), sound, size=riff))
        np.testing.assert_array_equal(found, noise(3000))

    @parameterized.parameters(0, 2 * 300, 2**64 - 1)
    def test_rf64(self, size: int) -> None:
        """A chunk of its own has the length; ffmpeg writes 0 there into a pipe."""
        long = chunk(b"ds64", struct.pack("<QQQI", 0, size, 0, 0))
        sound = chunk(b"data", pcm.encode(noise(300), "s16le"), UNKNOWN)
        data = wav(long, fmt(), sound, name=b"RF64")
        np.testing.assert_array_equal(read(data)[0], noise(300))
        if size == 600:
            data += chunk(b"LIST", b"this is no sound")
            np.testing.assert_array_equal(read(data)[0], noise(300))

    @parameterized.parameters((60, "0.0013 s of 0.0025 s"), (24000, "0.00 s of 1.00 s"))
    def test_length_beyond_the_end(self, size: int, place: str) -> None:
        """A definite length that does not come is an error, at the end of what does."""
        data = wav(fmt(), chunk(b"data", pcm.encode(noise(30), "s16le"), 2 * size)) + b"\0"
        with self.assertRaisesRegex(truncation.CutOffError, f"^stdin: cut off after {place}$"):
            read(data)
        reader = pcm.PcmReader(io.BytesIO(data), recover=True)
        np.testing.assert_array_equal(drain(reader), noise(30))
        self.assertEqual(reader.warnings, [f"cut off after {place}"])

    def test_interruption_is_no_truncation(self) -> None:
        self.enter_context(mock.patch.object(interruption, "_requested", True))
        data = wav(fmt(), chunk(b"data", pcm.encode(noise(30), "s16le"), 2**20))
        np.testing.assert_array_equal(read(data)[0], noise(30))

    def test_last_format_counts(self) -> None:
        sound = chunk(b"data", pcm.encode(noise(30, 2), "f32le"))
        data = wav(fmt(channels=2, bits=32, kind=3), sound)
        np.testing.assert_array_equal(read(data)[0], noise(30, 2))

    @parameterized.parameters(1, 2, 3, 5)
    def test_incomplete_last_sample(self, surplus: int) -> None:
        data = wav(fmt(channels=2, bits=24)) + b"data" + struct.pack("<I", UNKNOWN)
        data += pcm.encode(noise(10, 2), "s24le") + bytes(surplus)
        np.testing.assert_array_equal(read(data)[0], noise(10, 2))
        found, _ = read(pcm.encode(noise(10, 2), "s24le") + bytes(surplus), FORMAT)
        np.testing.assert_array_equal(found, noise(10, 2))
        size = struct.pack("<I", 60 + surplus)  # the header states an incomplete sample too
        data = wav(fmt(channels=2, bits=24)) + b"data" + size
        data += pcm.encode(noise(20, 2), "s24le")
        np.testing.assert_array_equal(read(data)[0], noise(20, 2)[:10])

    @parameterized.parameters(float("nan"), float("inf"), -float("inf"))
    def test_not_finite(self, value: float) -> None:
        samples = noise(3000, 2)
        samples[2500, 1] = value
        for data, form in (
            (written(samples, "FLOAT", rate=1000), None),
            (pcm.encode(samples, "f32le"), pcm.Format(1000, 2, "f32le")),
        ):
            reader = pcm.PcmReader(io.BytesIO(data), form)
            np.testing.assert_array_equal(reader.read(2000), samples[:2000])
            with self.assertRaisesRegex(
                ValueError, "^stdin: .*NaN .*, at 2.5000 s .sample 2500 of channel 2"
            ):
                reader.read(2000)


FORMAT = pcm.Format(24000, 2, "s24le")


class WrongHeadersTest(parameterized.TestCase):
    def assert_refused(self, data: bytes, message: str) -> None:
        with self.assertRaisesRegex(ValueError, message) as context:
            pcm.PcmReader(Pieces(data))
        self.assertNotIn("\n", str(context.exception))
        self.assertLess(len(str(context.exception)), 250)

    @parameterized.parameters("WAV", "WAVEX", "RF64")
    def test_every_truncation(self, container: str) -> None:
        data = written(noise(0), "PCM_24", container)
        for size in range(len(data)):
            self.assert_refused(data[:size], "^stdin: ended after .* of a WAV header$")
        self.assertEqual(pcm.PcmReader(Pieces(data)).read(10).shape, (0, 1))

    @parameterized.parameters(
        (b"fLaC" + bytes(50), "got b'fLaC', must be a WAV or .ecdc file, or raw .*--raw_rate"),
        (b"OggS\n" + bytes(50), "got b'OggS'"),
        (b"\n\r\0\xff" + bytes(50), "got b'.*', must be"),
        (b"RIFX" + bytes(50), "got b'RIFX'"),
        (b"RIFF\0\0\0\0AVI " + bytes(50), "must be a WAV"),
        (bytes(50), "must be a WAV"),
    )
    def test_foreign(self, data: bytes, message: str) -> None:
        self.assert_refused(data, message)

    @parameterized.parameters("FLAC", "OGG", "AIFF", "AU", "CAF", "MP3", "W64")
    def test_other_containers(self, container: str) -> None:
        file = io.BytesIO()
        soundfile.write(file, noise(3000), 24000, format=container)
        self.assert_refused(file.getvalue(), "must be a WAV")

    @parameterized.parameters(
        ("PCM_U8", "format 1 with 8 bits"),
        ("DOUBLE", "format 3 with 64 bits"),
        ("ULAW", "format 7 with 8 bits"),
        ("IMA_ADPCM", "format 17 with 4 bits"),
    )
    def test_other_samples(self, subtype: str, message: str) -> None:
        data = written(noise(3000), subtype)
        self.assert_refused(data, f"{message}.*; must be integers of 16, 24 or 32 bits, or")

    @parameterized.parameters(
        ([fmt(channels=0)], "0 channels"),
        ([fmt(rate=0)], "0 Hz"),
        ([fmt(bits=20)], "20 bits"),
        ([fmt(bits=24, unit=4)], "24 bits, 1 channels in 4 bytes"),
        ([fmt(unit=0)], "in 0 bytes"),
        ([chunk(b"fmt ", bytes(14))], "a format of 14 bytes"),
        ([chunk(b"data", bytes(100))], "samples before their format"),
        ([chunk(b"LIST", bytes(10)), chunk(b"data", b"")], "samples before their format"),
    )
    def test_contradictory_headers(self, chunks: list[bytes], message: str) -> None:
        self.assert_refused(wav(*chunks, bytes(1000)), f"^stdin: .*{message}")

    @parameterized.parameters(65537, 2**31 - 1, 2**31, UNKNOWN)
    def test_huge_chunks(self, size: int) -> None:
        for data in (wav(fmt(), chunk(b"LIST", b"", size)), wav(chunk(b"fmt ", b"", size))):
            file = Pieces(data + bytes(200_000))
            with self.assertRaisesRegex(ValueError, f"a WAV header with {size} bytes of b'...."):
                pcm.PcmReader(file)
            self.assertLess(file.most, 100)

    @parameterized.parameters(
        ({"rate": 2**32 - 1}, UNKNOWN),
        ({"rate": 2**32 - 1, "channels": 16383, "bits": 32}, UNKNOWN),
        ({"rate": 2**32 - 1, "bits": 24}, 2**32 - 2),
    )
    def test_huge_rates(self, fields: dict[str, int], size: int) -> None:
        """A header does not determine how many bytes are requested, and so allocated."""
        data = wav(fmt(**fields), chunk(b"data", b"", size))
        reader = pcm.PcmReader(file := Pieces(data), recover=True)
        tracemalloc.start()
        self.assertEqual(reader.read(reader.sample_rate).shape, (0, reader.channels))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(file.most, 2**21)
        self.assertLess(peak, 2**23)


class PiecesTest(parameterized.TestCase):
    @given(
        seed=st.integers(0, 2**32 - 1),
        most=st.sampled_from([1, 2, 5, 100, 4000]),
        size=st.sampled_from([1, 2, 77, 5000]),
        raw_format=st.sampled_from(tuple(SUBTYPES)),
        channels=st.integers(1, 3),
        is_known=st.booleans(),
        surplus=st.integers(0, 1),
    )
    def test_any_cuts(
        self,
        seed: int,
        most: int,
        size: int,
        raw_format: str,
        channels: int,
        is_known: bool,
        surplus: int,
    ) -> None:
        """A pipe returns any number of bytes, also parts of the header."""
        rng = np.random.default_rng(seed)
        samples = noise(int(rng.integers(0, 300)), channels)
        data = pcm.encode(samples, raw_format)
        bits = BITS.get(raw_format, 32)
        header = fmt(8000, channels, bits, 1 if raw_format in BITS else 3)
        text = chunk(b"LIST", bytes(int(rng.integers(0, 20))))
        # Length 0 stands for an unknown one, so nothing may follow an empty signal.
        end = chunk(b"LIST", b"no sound") if is_known and len(data) % 2 == 0 and data else b""
        whole = wav(text, header, text, chunk(b"data", data, None if is_known else UNKNOWN)) + end

        def sizes() -> Any:
            while True:
                yield int(rng.integers(1, most + 1))

        reader = pcm.PcmReader(Pieces(whole, sizes()))
        self.assertEqual(reader.format, pcm.Format(8000, channels, raw_format))
        np.testing.assert_array_equal(drain(reader, size), samples)
        raw = pcm.PcmReader(Pieces(data + surplus * b"\1", sizes()), reader.format)
        np.testing.assert_array_equal(drain(raw, size)[: len(samples)], samples)

    def test_returns_at_once_what_is_there(self) -> None:
        """A read does not wait for as many samples as it was asked for."""
        data = pcm.encode(noise(100), "s16le")
        file = Pieces(data, iter([1, 1, 1, 4, 100, 200]))
        reader = pcm.PcmReader(file, pcm.Format(24000, 1, "s16le"))
        self.assertEqual([len(reader.read(24000)) for _ in range(4)], [1, 2, 50, 47])

    def test_pieces_are_at_most_as_large_as_asked_for(self) -> None:
        reader = pcm.PcmReader(io.BytesIO(written(noise(100), "PCM_16")))
        self.assertEqual([len(reader.read(size)) for size in (1, 7, 60, 60, 60)], [1, 7, 60, 32, 0])


class WriterTest(parameterized.TestCase):
    @parameterized.product(raw_format=tuple(SUBTYPES), channels=(1, 2), rate=(1, 48000, 2**31 - 1))
    def test_header_is_read_by_libsndfile(self, raw_format: str, channels: int, rate: int) -> None:
        file = io.BytesIO()
        writer = pcm.PcmWriter(file, pcm.Format(rate, channels, raw_format), header=True)
        self.assertLen(file.getvalue(), 44)
        for part in np.split(noise(500, channels), [0, 3, 400]):
            writer.write(part)
        writer.close()
        data = file.getvalue()
        self.assertFalse(file.closed)
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            self.assertEqual((sound.samplerate, sound.channels), (rate, channels))
            self.assertEqual(sound.subtype, SUBTYPES[raw_format])
            found = sound.read(dtype="float32", always_2d=True)
        np.testing.assert_array_equal(found, noise(500, channels))
        found, own_rate = read(data)
        self.assertEqual(own_rate, rate)
        np.testing.assert_array_equal(found, noise(500, channels))

    @parameterized.parameters(*SUBTYPES)
    def test_without_header(self, raw_format: str) -> None:
        file = io.BytesIO()
        writer = pcm.PcmWriter(file, pcm.Format(8000, 2, raw_format), header=False)
        self.assertEqual(file.getvalue(), b"")
        writer.write(noise(50, 2))
        writer.abort()
        self.assertEqual(file.getvalue(), pcm.encode(noise(50, 2), raw_format))

    def test_every_block_is_flushed(self) -> None:
        raw = io.BytesIO()
        file = io.BufferedWriter(raw)  # type: ignore[arg-type]
        writer = pcm.PcmWriter(file, pcm.Format(8000, 1), header=True)
        for count in range(4):
            self.assertLen(raw.getvalue(), 44 + 20 * count)
            writer.write(noise(10))


class PushbackTest(parameterized.TestCase):
    @given(
        data=st.binary(max_size=12),
        size=st.integers(0, 6),
        pieces=st.lists(st.integers(1, 5), min_size=20, max_size=20),
        reads=st.lists(st.integers(1, 7), min_size=20, max_size=20),
    )
    def test_returns_all_bytes(
        self, data: bytes, size: int, pieces: list[int], reads: list[int]
    ) -> None:
        file = pcm.Pushback(Pieces(data, iter(pieces)), size)
        self.assertEqual(file.first, data[:size])
        found = b""
        for count in reads:
            more = file.read(count)
            self.assertLessEqual(len(more), count)
            if not more:
                break
            found += more
        self.assertEqual(found, data)
        self.assertEqual(file.read(1), b"")
        self.assertEqual(file.first, data[:size])

    def test_stays_open(self) -> None:
        inner = io.BytesIO(b"abcdef")
        file = pcm.Pushback(inner, 4)
        self.assertFalse(file.seekable())
        file.close()
        self.assertFalse(inner.closed)
        self.assertEqual(file.read(10) + file.read(10), b"abcdef")

    def test_header(self) -> None:
        file: Any = pcm.Pushback(io.BytesIO(written(noise(40), "PCM_16")), 4)
        np.testing.assert_array_equal(drain(pcm.PcmReader(file)), noise(40))


if __name__ == "__main__":
    absltest.main()
