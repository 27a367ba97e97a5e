"""Errors of files as one line."""

import errno
import io
import os

import soundfile
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk.system import file_errors


class FileErrorsTest(parameterized.TestCase):
    @parameterized.parameters(
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (OSError("odd"), "odd"),
        (ValueError("two\nlines."), "two lines"),
    )
    def test_reason(self, error, expected):
        self.assertEqual(file_errors.reason(error), expected)

    def test_reason_of_libsndfile(self):
        with self.assertRaises(soundfile.LibsndfileError) as caught:
            soundfile.SoundFile(io.BytesIO(b"no sound"))
        self.assertRegex(file_errors.reason(caught.exception), r"^[^\n.]*[Ff]ormat[^\n]*[^.]$")

    @parameterized.parameters(
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), "No such file or directory"),
        (KeyError("absent"), "'absent'"),
    )
    def test_names_the_file(self, error, expected):
        with (
            self.assertRaisesRegex(ValueError, f"^a.wav: {expected}$"),
            file_errors.as_value_error("a.wav", KeyError),
        ):
            raise error

    @parameterized.parameters(ValueError, BrokenPipeError, KeyboardInterrupt)
    def test_passes_through(self, kind):
        with self.assertRaises(kind) as caught, file_errors.as_value_error("a.wav"):
            raise kind("own words")
        self.assertEqual(str(caught.exception), "own words")


if __name__ == "__main__":
    absltest.main()
