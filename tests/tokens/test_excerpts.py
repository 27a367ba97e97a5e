"""Excerpts: the samples of the file, which is decoded once for all of them."""

import json
import pathlib
import random
import tempfile
from unittest import mock

import numpy as np
import soundfile
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.tokens import item_table
from encodec_hk.tokens import open_sounds
from encodec_hk.tokens import shard_work
from encodec_hk.tokens import sound_sources
from tests import tokenize_cases


def excerpt(name: str, offset: float, duration: float | None) -> item_table.AudioItem:
    """Return an item."""
    id = f"{name}@{offset:g}"
    path = name.encode()
    return item_table.AudioItem(id, name, path, offset=offset, duration=duration)


def read(source: sound_sources.SoundSource, size: int = 5000) -> np.ndarray:
    """Return all samples of a source, taken in pieces."""
    pieces, is_last = [], False
    while not is_last:
        into = np.zeros((size, source.width), np.float32)
        count, is_last = source.take(into)
        pieces.append(into[:count])
    source.close()
    return np.concatenate(pieces)


class ExcerptsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        opened = mock.patch.object(sound_sources, "_open", side_effect=sound_sources._open)
        self.opened = self.enterContext(opened)
        self.settings = sound_sources.ReadSettings(str(self.folder), 24000, 1)

    def write(self, suffix, seconds=8.0):
        clips = [tokenize_cases.clip(index, 2.0) for index in range(int(seconds) // 2)]
        path = self.folder / f"a{suffix}"
        rate = 22050 if suffix == ".mp3" else 24000
        samples = np.concatenate([samples[:, :1] for samples, _ in clips])[: round(seconds * rate)]
        settings = {"compression_level": 0.99, "bitrate_mode": "CONSTANT"}
        if suffix == ".mp3":  # 8 kbps: a sample depends on much before it
            soundfile.write(path, samples, rate, **settings)
        else:
            tokenize_cases.write_sound(path, samples, rate)
        return path

    @parameterized.product(
        suffix=(".flac", ".mp3", ".ogg", ".opus", ".m4a"), is_short=(True, False)
    )
    def test_samples_do_not_depend_on_other_excerpts(self, suffix, is_short):
        name = self.write(suffix).name
        if not is_short:  # read as they are taken
            self.enterContext(mock.patch.object(sound_sources, "_MOST_AT_ONCE", 1000))
        rng = random.Random(suffix)
        places = [(rng.uniform(0, 6), rng.uniform(0.05, 1.5)) for _ in range(12)]
        waiting = open_sounds.OpenSounds()
        for offset, duration in [*places, *sorted(places)]:
            item = excerpt(name, offset, duration)
            alone = read(sound_sources.SoundSource(item, self.settings))
            found = read(sound_sources.SoundSource(item, self.settings, waiting), 3000)
            np.testing.assert_array_equal(found, alone)
        waiting.close()

    def test_samples_are_those_of_the_file(self):
        path = self.write(".mp3")
        whole = sound_files.read(path)
        waiting = open_sounds.OpenSounds()
        for offset in (0.0, 0.5, 1.25, 6.0):
            item = excerpt(path.name, offset, 0.5)
            found = read(sound_sources.SoundSource(item, self.settings, waiting))
            own = whole.samples[round(offset * 22050) :][: round(0.5 * 22050)]
            np.testing.assert_array_equal(found, resampling.resample(own, 22050, 24000))
        waiting.close()
        self.opened.assert_called_once()

    @parameterized.parameters(0, 2)
    def test_file_is_decoded_once(self, num_readers):
        for suffix in (".mp3", ".ogg"):
            self.write(suffix)
        entries = [
            {"path": name, "offset": offset / 4, "duration": 0.2}
            for name in ("a.ogg", "a.mp3")
            for offset in (9, 0, 30, 3, 10, 1, 17)
        ]
        manifest = self.folder / "m.jsonl"
        manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        job = tokenize_cases.job(manifest, self.folder / "out", shard_hours=1)
        tokenize_cases.run(job, num_readers=num_readers)
        if not num_readers:
            self.assertEqual(self.opened.call_count, 2)
        rows = tokenize_cases.rows(self.folder / "out")
        self.assertLen(rows, 14)
        for row in rows:
            whole = sound_files.read(self.folder / row["source"])
            rate = whole.sample_rate
            own = whole.samples[round(row["start"] * rate) :][: round(0.2 * rate)]
            codes, _ = tokenize_cases.encode_alone(own, rate)
            np.testing.assert_array_equal(row["codes"], codes)

    def test_lengths_that_are_not_allowed_are_not_decoded(self):
        name = self.write(".ogg").name
        settings = sound_sources.ReadSettings(
            str(self.folder), 24000, 1, min_seconds=0.5, max_seconds=1.0
        )
        waiting = open_sounds.OpenSounds()
        reads = mock.patch.object(sound_files.SoundReader, "read", side_effect=AssertionError)
        with reads:
            for duration in (0.4, 1.1):
                with self.assertRaises(sound_sources.SkippedItem):
                    sound_sources.SoundSource(excerpt(name, 3.0, duration), settings, waiting)
        source = sound_sources.SoundSource(excerpt(name, 3.0, 0.7), settings, waiting)
        self.assertLen(read(source), round(0.7 * 24000))
        self.opened.assert_called_once()
        waiting.close()

    def test_excerpt_beyond_the_end(self):
        name = self.write(".ogg", 4.0).name
        waiting = open_sounds.OpenSounds()
        for offset in (3.5, 9.0):
            item = excerpt(name, offset, 1.0)
            with self.assertRaisesRegex(ValueError, "a.ogg: the source ends after 0.* of 1 s"):
                sound_sources.SoundSource(item, self.settings, waiting)
        waiting.close()

    def test_readers_that_wait_are_few(self):
        names = [self.folder / f"{index}.wav" for index in range(2 * open_sounds._MOST)]
        waiting = open_sounds.OpenSounds()
        for path in names:
            sound_files.write(path, np.zeros((100, 1), np.float32), 24000)
            item = excerpt(path.name, 0.001, 0.002)
            read(sound_sources.SoundSource(item, self.settings, waiting))
        self.assertIsNone(waiting.take(b"0.wav", 1.0))
        self.assertIsNone(waiting.take(names[-1].name.encode(), 0.002))
        self.assertIsNotNone(waiting.take(names[-1].name.encode(), 0.003))
        waiting.close()

    def test_order(self):
        items = [excerpt("a", 5, 1), excerpt("b", 2, 1), excerpt("a", 1, 1), excerpt("a", 9, 1)]
        items += [item_table.AudioItem(str(n), "", b"c", seconds=n) for n in (1, 2)]
        items += [excerpt("b", 1, 1)]
        order = shard_work.reading_order(items, range(7))
        self.assertEqual([items[index].id for index in order[:2]], ["2", "1"])
        self.assertEqual(
            [items[index].id for index in order[2:]], ["a@1", "b@1", "a@5", "b@2", "a@9"]
        )


if __name__ == "__main__":
    absltest.main()
