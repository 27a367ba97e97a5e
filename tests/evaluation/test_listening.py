"""The sounds and the picture of docs/listen/."""

import io
import pathlib
import re
import shutil
import tempfile

import numpy as np
import pytest
import soundfile
from absl.testing import absltest
from PIL import Image

from encodec_hk.evaluation import listening

ROOT = pathlib.Path(__file__).parents[2]
SHOWN = ROOT / "docs/listen"


class ListeningTest(absltest.TestCase):
    @pytest.mark.slow
    def test_makes_sounds_and_picture_of_a_clip(self):
        if not shutil.which("opusenc"):
            self.skipTest("no opusenc: apt-get install opus-tools")
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        clip = folder / "clip.wav"
        noise = 0.1 * np.random.default_rng(0).standard_normal(44_100)
        soundfile.write(clip, noise, 44_100)
        self.assertEqual(listening.main([str(folder / "out"), f"--clips={clip}"]), 0)
        versions = "original encodec_3kbps encodec_6kbps encodec_12kbps opus_6kbps opus_12kbps"
        for version in versions.split():
            samples, rate = soundfile.read(folder / "out" / f"clip_{version}.flac")
            self.assertEqual((len(samples), rate), (24_000, 24_000), version)
        with Image.open(folder / "out" / "spectrograms.png") as picture:
            self.assertGreater(picture.width, 6 * 200)

    def test_a_louder_sound_is_brighter(self):
        noise = np.random.default_rng(0).standard_normal((24_000, 1)).astype(np.float32)
        versions = [
            listening.Version(label, label, scale * noise)
            for label, scale in (("loud", 0.3), ("soft", 0.003))
        ]
        png = listening.picture({"noise": versions}, 24_000)
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"), np.float64)
        panels = pixels[60:200]
        loud, soft = panels[:, 80:300].mean(), panels[:, 350:560].mean()
        self.assertGreater(loud, soft + 50)

    def test_an_unreadable_clip_is_an_error(self):
        self.assertEqual(listening.main(["out", "--clips=nowhere.wav"]), 2)

    def test_the_page_names_each_sound_and_its_licence(self):
        page = (SHOWN / "README.md").read_text()
        linked = set(re.findall(r"\]\(([\w.]+\.flac)\)", page))
        self.assertEqual(linked, {path.name for path in SHOWN.glob("*.flac")})
        self.assertIn("LICENSES.md", page)


if __name__ == "__main__":
    absltest.main()
