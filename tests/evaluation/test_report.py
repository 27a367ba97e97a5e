"""The report without a browser: the content of the file."""

import base64
import html.parser
import io
import json
import sys
from unittest import mock

import numpy as np
import soundfile
from absl.testing import parameterized
from PIL import Image

from encodec_hk.evaluation import results
from encodec_hk.evaluation.report import pictures
from encodec_hk.evaluation.report import sounds
from tests import report_cases as cases


class Page(html.parser.HTMLParser):
    """A parsed page: elements as (tag, attributes), text outside scripts and styles, JSON."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.json, self._in = [], "", [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in = {"tag": tag, **dict(attrs)}

    def handle_endtag(self, tag):
        self._in = {}

    def handle_data(self, data):
        if self._in.get("type") == "application/json":
            assert "<" not in data  # nothing ends the element or opens a comment
            self.json.append(json.loads(data))
        elif self._in.get("tag") not in ("script", "style"):
            self.text += data


def decoded(uri, kind):
    start = f"data:{kind};base64,"
    assert uri.startswith(start)
    return io.BytesIO(base64.b64decode(uri.removeprefix(start), validate=True))


class StructureTest(parameterized.TestCase):
    def test_self_contained(self):
        text = cases.written()
        page = Page(text)
        for tag, attributes in page.elements:
            self.assertNotIn(tag, ("iframe", "object", "embed", "base"))
            for name in ("src", "href", "srcset", "action", "data"):
                self.assertRegex(attributes.get(name) or "#", "^(#|data:)")
        self.assertNotRegex(text, r"@import|url\(|\bfetch\(|XMLHttpRequest|\{\{")
        policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
        self.assertIn("default-src 'none'", policy)

    def test_sounds_and_pictures(self):
        _, *found = Page(cases.written()).json
        self.assertLen(found, 2)
        for item, value in zip(cases.items(), found, strict=True):
            self.assertEqual((value["file"], value["rate"]), (item.file, item.sample_rate))
            given = [item.original, *(r.samples for r in item.renditions)]
            self.assertEqual(
                [(t["codec"], t["kbps"]) for t in value["tracks"][1:]],
                [(r.codec, r.kbps) for r in item.renditions],
            )
            sizes = set()
            for track, samples in zip(value["tracks"], given, strict=True):
                heard, rate = soundfile.read(decoded(track["audio"], "audio/flac"), always_2d=True)
                self.assertEqual(rate, item.sample_rate)
                cut = np.clip(samples, -1, 1 - 2**-15)
                np.testing.assert_allclose(heard, cut, rtol=0, atol=2**-16 + 1e-9)
                sizes.add(Image.open(decoded(track["picture"], "image/png")).size)
            self.assertLen(sizes, 1)
            anchor, _ = soundfile.read(decoded(value["anchor"], "audio/flac"), always_2d=True)
            self.assertEqual(anchor.shape, item.original.shape)

    def test_names_are_escaped(self):
        page = Page(cases.written())
        self.assertIn("A <title> & more", page.text)
        self.assertIn("</title>broken.wav", page.text)
        self.assertIn("<script>alert(1)</script>", page.text)
        self.assertIn("<i>& so on", page.text)
        self.assertNotIn("b", [tag for tag, a in page.elements if tag == "b" and not a][2:])
        self.assertEqual(page.json[2]["file"], cases.ODD)

    def test_missing_measures_come_first(self):
        text = cases.written()
        self.assertIn("<code>pip install pesq</code>", text)
        self.assertLess(text.index("pip install pesq"), text.index('id="quality"'))
        self.assertIn("1 file failed", text)
        self.assertIn("<dt>share of equal codes</dt><dd>0.99998</dd>", text)
        self.assertIn("a processor", text)
        self.assertRegex(text, r"This page is one file of [\d.]+ (k|M)B and loads nothing else: ")

    @parameterized.named_parameters(
        ("no items", {"items": []}),
        ("an empty summary", {"summary": {}, "items": []}),
        ("one file", {"rows": cases.rows()[:1], "items": cases.items()[:1]}),
        ("no renditions", {"items": [results.Item("x", "g", 8000, np.zeros((9, 1)), ())]}),
        ("a lone surrogate", {"title": "\udcff"}),
    )
    def test_optional_parts(self, changes):
        page = Page(cases.written(**changes))
        self.assertLen(page.json, 1 + len(changes.get("items", cases.items())))

    def test_no_rows(self):
        with self.assertRaisesRegex(ValueError, "^rows: got none, must be at least one"):
            cases.written(rows=[])

    def test_bad_items(self):
        item = cases.items()[0]
        short = results.Rendition("opus", 6.0, item.original[:-1])
        with self.assertRaisesRegex(ValueError, "^long.wav: got opus at 6 kbps of shape"):
            cases.written(items=[results.Item("long.wav", "g", 24000, item.original, (short,))])
        with self.assertRaisesRegex(ValueError, r"^long.wav: got an original .* must be \[T, C\]"):
            cases.written(items=[results.Item("long.wav", "g", 24000, item.original[:, 0], ())])

    def test_without_pillow(self):
        with (
            mock.patch.dict(sys.modules, {"PIL.Image": None}),
            self.assertRaisesRegex(ValueError, r"^evaluation needs PIL.*\[evaluate\]"),
        ):
            cases.written()


class SoundsTest(parameterized.TestCase):
    @parameterized.parameters(16000, 24000, 44100, 48000)
    def test_anchor(self, rate):
        steps = np.arange(rate)
        for hertz, low, high in (
            *((100, -0.1, 0.1), (2000, -0.1, 0.1), (3500, -0.1, 0.1)),
            *((4000, -200, -25), (4500, -200, -50), (7000, -200, -50)),
        ):
            tone = 0.5 * np.cos(2 * np.pi * hertz * steps / rate)[:, None]
            middle = slice(rate // 4, -rate // 4)
            filtered = sounds.anchor(tone, rate)[middle, 0]
            gain = 10 * np.log10(np.mean(filtered**2) / np.mean(tone[middle] ** 2) + 1e-20)
            self.assertBetween(gain, low, high, f"{hertz} Hz")
            if low > -1:  # in the passband, without delay
                np.testing.assert_allclose(filtered, tone[middle, 0], rtol=0, atol=0.01)

    def test_no_anchor(self):
        self.assertIsNone(sounds.anchor(np.zeros((9, 1)), 8000))

    @parameterized.parameters((24000, 1), (48000, 2))
    def test_spectrograms(self, rate, channels):
        time = np.arange(rate) / rate
        tone = np.sin(2 * np.pi * 2000 * time)[:, None] * (time[:, None] > 0.5)
        picture = pictures.decibels(np.repeat(tone, channels, axis=1), rate)
        self.assertLess(picture[:, : picture.shape[1] // 3].max(), -60)
        late = picture[:, 2 * picture.shape[1] // 3 :].mean(axis=1)
        height = dict(pictures.ticks(rate))["2 kHz"]
        self.assertAlmostEqual((np.argmax(late) + 0.5) / len(late), height, delta=0.015)

    @parameterized.parameters(1, 7, 100, 24000 * 30)
    def test_spectrograms_of_any_length(self, steps):
        picture = pictures.decibels(np.zeros((steps, 1), np.float32), 24000)
        self.assertTrue(np.isfinite(picture).all())
        self.assertLessEqual(picture.shape[1], 640)
