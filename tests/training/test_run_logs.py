"""The logs of a run: tables, TensorBoard, pictures."""

import csv
import pathlib
import struct
import tempfile

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from tensorboardX.proto import event_pb2

from encodec_hk.training import run_logs


def read_events(folder):
    """Return the events of a TensorBoard folder; a record is length, checksum, event, checksum."""
    events = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[12 + length + 4 :]
    return events


class LogsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def rows(self, name="metrics"):
        with (self.folder / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def write(self, step, *rows):
        logs = run_logs.Logs(self.folder, step)
        for number, values in rows:
            logs.add_row("metrics", number, values)
        logs.close()

    def test_rows(self):
        self.write(0, (10, {"loss": 0.5, "rate": 1e-9}), (20, {"loss": 0.25, "rate": 3.0}))
        expected = [
            {"step": "10", "loss": "0.5", "rate": "1e-09"},
            {"step": "20", "loss": "0.25", "rate": "3.0"},
        ]
        self.assertEqual(self.rows(), expected)
        self.assertEqual([path.name for path in self.folder.glob("*.part")], [])

    def test_rows_are_written_at_once(self):
        logs = run_logs.Logs(self.folder, 0)
        logs.add_row("metrics", 1, {"loss": 1.0})
        logs.add_row("metrics", 2, {"loss": 2.0})
        self.assertLen(self.rows(), 2)
        logs.close()

    def test_columns_that_come_later(self):
        self.write(0, (1, {"a": 1.0}), (2, {"a": 2.0, "b": 3.0}), (3, {"b": 4.0}))
        expected = [
            {"step": "1", "a": "1.0", "b": ""},
            {"step": "2", "a": "2.0", "b": "3.0"},
            {"step": "3", "a": "", "b": "4.0"},
        ]
        self.assertEqual(self.rows(), expected)

    @parameterized.parameters((0, []), (2, ["1", "2"]), (3, ["1", "2", "3"]), (9, ["1", "2", "3"]))
    def test_rows_after_the_step_are_dropped(self, step, kept):
        self.write(0, *[(number, {"a": float(number)}) for number in (1, 2, 3)])
        self.write(step, (step + 1, {"a": 7.0, "b": 8.0}))
        rows = self.rows()
        self.assertEqual([row["step"] for row in rows], [*kept, str(step + 1)])
        self.assertEqual([row["a"] for row in rows], [*(f"{k}.0" for k in kept), "7.0"])
        self.assertEqual(rows[-1]["b"], "8.0")

    def test_both_tables_lose_their_last_rows(self):
        logs = run_logs.Logs(self.folder, 0)
        for step in (1, 2):
            logs.add_row("metrics", step, {"a": 1.0})
            logs.add_row("validation", step, {"b": 1.0})
        logs.close()
        self.write(1)
        self.assertEqual([row["step"] for row in self.rows("metrics")], ["1"])
        self.assertEqual([row["step"] for row in self.rows("validation")], ["1"])

    def test_incomplete_row(self):
        """A full disk or a power cut may leave "12" of a row of step 125."""
        self.write(0, (110, {"a": 1.0, "b": 2.0}), (120, {"a": 3.0, "b": 4.0}))
        with (self.folder / "metrics.csv").open("a") as file:
            file.write("12")
        self.write(120, (130, {"a": 5.0, "b": 6.0}))
        self.assertEqual([row["step"] for row in self.rows()], ["110", "120", "130"])

    def test_other_tables_stay(self):
        (self.folder / "notes.csv").write_text("who,what\n1,2\n")
        self.write(5, (6, {"a": 1.0}))
        self.assertEqual((self.folder / "notes.csv").read_text(), "who,what\n1,2\n")

    def test_tensorboard(self):
        logs = run_logs.Logs(self.folder, 0)
        logs.add_row("metrics", 5, {"loss/mel": 0.5})
        tone = np.sin(np.arange(2000) / 3)[:, None].astype(np.float32)
        logs.add_sound("excerpt/original", 5, 2 * tone, 8000)  # clipped
        logs.flush()
        logs.close()
        events = read_events(self.folder / "tensorboard")
        found = {value.tag: (e.step, value) for e in events for value in e.summary.value}
        self.assertCountEqual(
            found, ["metrics/loss/mel", "excerpt/original", "excerpt/original/spectrogram"]
        )
        self.assertEqual({step for step, _ in found.values()}, {5})
        self.assertEqual(found["metrics/loss/mel"][1].simple_value, 0.5)
        sound = found["excerpt/original"][1].audio
        self.assertEqual((sound.sample_rate, sound.content_type), (8000, "audio/wav"))
        samples = np.frombuffer(sound.encoded_audio_string[-4000:], np.int16)
        expected = np.clip(2 * tone[:, 0], -1, 1) * 32767
        np.testing.assert_allclose(samples, expected, rtol=0, atol=2)
        image = found["excerpt/original/spectrogram"][1].image
        self.assertEqual((image.height, image.width), run_logs.picture(tone).shape)
        self.assertStartsWith(image.encoded_image_string, b"\x89PNG")

    def test_tensorboard_is_purged_after_the_step(self):
        self.write(0, (1, {"a": 1.0}), (2, {"a": 2.0}))
        self.write(1, (2, {"a": 3.0}))
        starts = [
            event.step
            for event in read_events(self.folder / "tensorboard")
            if event.session_log.status == event_pb2.SessionLog.START
        ]
        self.assertEqual(starts[-1], 2)  # TensorBoard drops older events from this step on


class PictureTest(parameterized.TestCase):
    @parameterized.parameters(0, 1, 40, 255)
    def test_a_tone_is_a_bright_line(self, bin_number):
        steps = np.arange(4096)[:, None]
        audio = np.cos(2 * np.pi * bin_number / 512 * steps + 0.1)
        image = run_logs.picture(np.tile(audio, (1, 2)).astype(np.float32))
        self.assertEqual((image.dtype, image.shape), (np.uint8, (257, (4096 - 512) // 128 + 1)))
        np.testing.assert_array_equal(image.argmax(axis=0), 256 - bin_number)
        self.assertEqual(image.max(), 255)
        far = np.abs(np.arange(257) - (256 - bin_number)) > 30
        self.assertLess(image[far].max(), 60)

    def test_decibels(self):
        """A tone 40 dB under another is half as bright."""
        steps = np.arange(4096)[:, None]
        tones = np.cos(2 * np.pi * 32 / 512 * steps) + 0.01 * np.cos(2 * np.pi * 128 / 512 * steps)
        image = run_logs.picture(tones)
        np.testing.assert_allclose(image[256 - 128].astype(float), 127.5, atol=1)
        np.testing.assert_array_equal(image[256 - 32], 255)

    @parameterized.parameters(1, 511, 512, 700)
    def test_short_and_silent(self, length):
        image = run_logs.picture(np.zeros((length, 1), np.float32))
        self.assertEqual(image.shape[0], 257)
        self.assertGreaterEqual(image.shape[1], 1)
        np.testing.assert_array_equal(image, image[0, 0])


if __name__ == "__main__":
    absltest.main()
