"""Sound files that are cut off, and those that only look like it."""

import contextlib
import io
import pathlib
import struct
import tempfile
from unittest import mock

import numpy as np
import soundfile
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.sound import sound_files
from encodec_hk.sound import truncation

RATE = 24000
LENGTH = 2 * RATE


def encoded(suffix: str, sample_format: str = "int16", channels: int = 1) -> bytes:
    """Return two seconds of noise as a file."""
    samples = 0.1 * np.random.default_rng(0).normal(size=(LENGTH, channels))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, f"a{suffix}")
        sound_files.write(path, samples, RATE, sample_format)
        return path.read_bytes()


def mp3() -> tuple[bytes, bytes]:
    """Return the first frame of an MP3 file, which tells the length, and all others."""
    data = encoded(".mp3")
    size = 72 * 64_000 // RATE  # of the first frame, of version 2 at 64 kbps
    while data[size : size + 2] != data[:2]:
        size += 1
    assert b"Info" in data[:size] or b"Xing" in data[:size]
    return data[:size], data[size:]


class CutOffTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def read(self, suffix: str, data: bytes, *, recover: bool = False) -> tuple[np.ndarray, str]:
        """Return the samples of a file, and the warnings about it."""
        path = self.folder / f"a{suffix}"
        path.write_bytes(data)
        parts = [np.zeros((0, 1), np.float32)]
        with sound_files.SoundReader(path, recover=recover) as reader:
            while len(samples := reader.read(RATE)):
                parts.append(samples)
            return np.concatenate(parts), "\n".join(reader.warnings)

    def assert_cut(self, suffix: str, data: bytes, place: str) -> np.ndarray:
        """Check the error, and that what is there can be read; return that."""
        with self.assertRaisesRegex(truncation.CutOffError, rf"a\{suffix}: cut off after {place}$"):
            self.read(suffix, data)
        found, warnings = self.read(suffix, data, recover=True)
        self.assertRegex(warnings, f"^cut off after {place}$")
        return found

    @parameterized.product(
        suffix=(".wav", ".rf64", ".aiff"), sample_format=("int16", "int24", "float32")
    )
    def test_chunks(self, suffix: str, sample_format: str) -> None:
        data = encoded(suffix, sample_format)
        whole, warnings = self.read(suffix, data)
        self.assertEqual((len(whole), warnings), (LENGTH, ""))
        unit = {"int16": 2, "int24": 3, "float32": 4}[sample_format]
        found = self.assert_cut(suffix, data[: -unit * RATE // 2], "1.50 s of 2.00 s")
        np.testing.assert_array_equal(found, whole[: len(found)])
        self.assert_cut(suffix, data[:-1], r"(1.9999.*|2.00.*) s of 2.000* s")

    @parameterized.product(size=(0, 0xFFFFFFFF, 0x7FFFF000), riff=(0, 8, 36, 0xFFFFFFFF))
    def test_streamed_wav_is_whole(self, size: int, riff: int) -> None:
        """Programs that write into pipes do not know the length."""
        data = bytearray(encoded(".wav"))
        whole, _ = self.read(".wav", bytes(data))
        at = data.index(b"data") + 4
        data[at : at + 4], data[4:8] = struct.pack("<I", size), struct.pack("<I", riff)
        for length, surplus in ((LENGTH, 0), (LENGTH - 500, 0), (LENGTH - 500, 1)):
            end = len(data) - 2 * (LENGTH - length) + surplus
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors):
                found, warnings = self.read(".wav", bytes(data[:end]))
            self.assertEqual((warnings, errors.getvalue()), ("", ""))
            np.testing.assert_array_equal(found, whole[:length])

    def test_empty_wav_with_more_after_the_samples(self) -> None:
        data = bytearray(encoded(".wav")[:44] + b"LIST" + struct.pack("<I", 4) + b"INFO")
        data[40:44], data[4:8] = bytes(4), struct.pack("<I", len(data) - 8)
        with self.assertRaisesRegex(ValueError, "holds no samples"):
            self.read(".wav", bytes(data))

    def test_wav_with_more_after_the_samples(self) -> None:
        data = encoded(".wav") + b"LIST" + struct.pack("<I", 400) + b"INFO"  # itself cut off
        self.assertEqual(self.read(".wav", data)[1], "")

    @parameterized.parameters((b"", b""), (b"ID3\3\0\0\0\0\1\x08" + bytes(136), b""), (b"", b"TAG"))
    def test_mp3(self, before: bytes, after: bytes) -> None:
        """With and without the frame that tells the length, with tags around them."""
        first, frames = mp3()
        after = after and after + bytes(125)
        for data, total in ((first + frames, r" of 2\.\d\d s"), (frames, "")):
            data = before + data + after
            self.assertEqual(self.read(".mp3", data)[1], "")
            cut = len(data) - len(after)
            place = rf"(1\.9\d|2\.0\d) s{total}"
            self.assert_cut(".mp3", data[: cut - 1], place)
            self.assert_cut(".mp3", data[: cut - 50], place)
            found = self.assert_cut(
                ".mp3", data[: cut - len(frames) // 2], rf"(0.9|1.0)\d s{total}"
            )
            if total:  # else libsndfile guesses the length from the first frame
                self.assertBetween(len(found), 0.9 * RATE, 1.1 * RATE)

    def test_mp3_without_its_last_frames(self) -> None:
        """Cut between two frames, which only the first one tells."""
        first, frames = mp3()
        size = frames.rindex(frames[:2], 0, -10)
        self.assert_cut(".mp3", first + frames[:size], r"(1\.9\d|2\.0\d) s of 2\.\d\d s")
        self.assertEqual(self.read(".mp3", frames[:size])[1], "")

    def test_mp3_with_other_bytes_between_frames(self) -> None:
        first, frames = mp3()
        middle = frames.index(frames[:2], len(frames) // 2)
        data = first + frames[:middle] + b"\xff\xf0\xff" * 100 + frames[middle:]
        self.assertEqual(self.read(".mp3", data)[1], "")
        self.assert_cut(".mp3", data[:-1], r"(1\.9\d|2\.0\d) s of 2\.\d\d s")

    def test_vbri(self) -> None:
        """The header of Fraunhofer's encoder."""
        first, frames = mp3()
        header = bytearray(len(first))
        header[:4] = first[:4]
        count = round((LENGTH + 1105) / 576) + 1
        header[36:54] = struct.pack(">4s3H2I", b"VBRI", 1, 0, 0, len(first) + len(frames), count)
        data = bytes(header) + frames
        self.assertIsNone(self.find(data))
        for size in (1, 50, len(frames) // 2):
            self.assertRegex(str(self.find(data[:-size])), r"[012]\.\d\d s of 2\.")

    def find(self, data: bytes) -> truncation.Truncation | None:
        (self.folder / "a").write_bytes(data)
        with open(self.folder / "a", "rb") as file:
            return truncation.find(file)

    def test_mp3_is_reported_before_it_is_opened(self) -> None:
        """libmpg123 prints lines of its own about such files."""
        first, frames = mp3()
        with (
            mock.patch.object(soundfile, "SoundFile", side_effect=AssertionError),
            self.assertRaises(truncation.CutOffError),
        ):
            self.read(".mp3", first + frames[:-500])

    def test_flac(self) -> None:
        data = encoded(".flac")
        place = r"a.flac: damaged or cut off after 1.00 s of 2.00 s: .*lost sync"
        with self.assertRaisesRegex(truncation.CutOffError, place):
            self.read(".flac", data[: len(data) * 3 // 4])
        found, warnings = self.read(".flac", data[: len(data) * 3 // 4], recover=True)
        self.assertRegex(warnings, "^damaged or cut off after 1.[123]")
        whole = self.read(".flac", data)[0]
        self.assertGreater(len(found), 1.1 * RATE)
        np.testing.assert_array_equal(found, whole[: len(found)])

    @parameterized.parameters(".ogg", ".opus")
    def test_ogg(self, suffix: str) -> None:
        data = encoded(suffix)
        whole, warnings = self.read(suffix, data)
        self.assertEqual((len(whole), warnings), (LENGTH, ""))
        for size in (1, 50, len(data) // 3):
            place = str(self.find(data[:-size]))
            found = self.assert_cut(suffix, data[:-size], place)
            self.assertEqual(f"{len(found) / RATE:.2f} s", place)
            self.assertGreater(len(found), 0.6 * RATE)
            np.testing.assert_array_equal(found, whole[: len(found)])

    def test_ogg_cut_between_pages(self) -> None:
        """Programs write such files too, even where the last packet goes on."""
        data = encoded(".ogg")
        last = data.rindex(b"OggS")
        for rest in (b"", bytes(128), b"TAG" + bytes(125)):
            self.assertIsNone(self.find(data[:last] + rest))
            self.assertIsNone(self.find(data + rest))
        for rest in (b"O", b"OggS", data[last : last + 27], data[last : last + 28]):
            self.assertRegex(str(self.find(data[:last] + rest)), r"^1\.\d\d s$")
        before = data.rindex(b"OggS", 0, last)
        page = bytearray(data[before:last])
        page[26 + page[26]] = 255  # the last packet of the page
        self.assertIsNone(self.find(data[:before] + page + bytes(255)))

    def test_ogg_flac(self) -> None:
        file = io.BytesIO()
        samples = 0.1 * np.random.default_rng(0).normal(size=LENGTH)
        soundfile.write(file, samples, RATE, "PCM_16", format="FLAC")
        packet = b"\x7fFLAC\1\0\0\1" + file.getvalue()[:42]
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, 2, 0, 1, 0, 0, 1) + bytes([len(packet)])
        sound = struct.pack("<4sBBqIIIB", b"OggS", 0, 0, RATE, 1, 1, 0, 1) + b"\5hello"
        self.assertIsNone(self.find(head + packet + sound))
        self.assertEqual(str(self.find(head + packet + sound + sound[:-1])), "1.00 s")

    def test_bytes_of_any_kind(self) -> None:
        """No file, however wrong, makes the search fail."""
        rng = np.random.default_rng(0)
        suffixes = (".wav", ".aiff", ".rf64", ".mp3", ".ogg", ".opus")
        starts = [encoded(suffix)[:300] for suffix in suffixes]
        for _ in range(300):
            data = bytearray(starts[rng.integers(len(starts))][: rng.integers(1, 300)])
            for at in rng.integers(0, len(data), 3):
                data[at] = rng.integers(256)
            self.find(bytes(data))

    def test_compressed_wav(self) -> None:
        """Other codecs in WAV files have another size of a sample."""
        samples = 0.1 * np.random.default_rng(0).normal(size=LENGTH)
        for subtype in ("ULAW", "IMA_ADPCM", "DOUBLE"):
            file = io.BytesIO()
            soundfile.write(file, samples, RATE, subtype, format="WAV")
            self.assertEqual(self.read(".wav", file.getvalue())[1], "")
            data = file.getvalue()[: len(file.getvalue()) * 3 // 4]
            self.assertRegex(str(self.find(data)), r"^1\.\d\d s of 2\.\d\d s$")


if __name__ == "__main__":
    absltest.main()
