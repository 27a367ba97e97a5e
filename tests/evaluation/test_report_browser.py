"""The report in a real browser: sound, keys, the listening test, narrow and dark."""

import csv
import io
import pathlib
import re
import tempfile
import time

import numpy as np
import pytest
from absl.testing import parameterized

from tests import browser
from tests import report_cases as cases

# Records for every sound that the page starts: its time, position and peak.
RECORD = """
window.starts = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when, from) {
  window.starts.push([when, from, Math.max(...this.buffer.getChannelData(0).slice(0, 4000))]);
  return start.call(this, when, from);
};
"""


class BrowserTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.driver = cls.enterClassContext(browser.chromium(cls.folder))
        cls.url = (cls.folder / "report.html").as_uri()
        (cls.folder / "report.html").write_text(cases.written(), "utf-8")
        cls.command("Page.addScriptToEvaluateOnNewDocument", source=RECORD)

    @classmethod
    def command(cls, name, **arguments):
        return cls.driver.execute_cdp_cmd(name, arguments)

    def setUp(self):
        super().setUp()
        self.open(self.url)

    def tearDown(self):
        super().tearDown()
        self.assertEqual([line["message"] for line in self.driver.get_log("browser")], [])

    def open(self, url, width=1200):
        self.command(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        self.driver.get(url)

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        return self.driver.find_elements("css selector", selector)

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def position(self, where=".player"):
        return self.js(f"return Number(document.querySelector('{where} .transport input').value)")

    def wait(self, script, seconds=20.0):
        end = time.monotonic() + seconds
        while not (found := self.js(f"return {script}")):
            self.assertLess(time.monotonic(), end, script)
            time.sleep(0.03)
        return found

    def test_curves_and_tables(self):
        titles = [card.get_attribute("data-measure") for card in self.find(".curve")]
        self.assertEqual(titles, ["si_snr"])  # not PESQ, which no file has
        self.assertLen(self.find(".curve .point"), 3)
        self.assertNotIn("NaN", self.js("return document.querySelector('.curve').innerHTML"))
        table = self.find("#means")[0]
        self.assertIn("9.00", table.text)  # 6 kbps, all files
        self.assertIn("8.50 to 9.50", table.text)
        self.js(
            "const s = document.getElementById('group'); s.value = 'speech';"
            "s.dispatchEvent(new Event('change'))"
        )
        self.assertIn("12.00", table.text)
        self.assertEqual([len(b.find_elements("css selector", "rect.used"))
                          for b in self.find(".bars svg")], [2, 8])  # fmt: skip

    def test_decodes_to_the_samples(self):
        for index, item in enumerate(cases.items()):
            heard = self.driver.execute_async_script(
                """const done = arguments[1];
                const item = JSON.parse(document.querySelectorAll("script.item")[arguments[0]].textContent);
                const bytes = Uint8Array.from(atob(item.tracks[1].audio.split(",")[1]), (c) => c.charCodeAt(0));
                new OfflineAudioContext(1, 1, item.rate).decodeAudioData(bytes.buffer)
                  .then((b) => done([b.sampleRate, b.numberOfChannels, [...b.getChannelData(0)].slice(0, 20000)]));
                """,  # noqa: E501
                index,
            )
            samples = item.renditions[0].samples
            self.assertEqual(heard[:2], [item.sample_rate, samples.shape[1]])
            cut = np.clip(samples[:20000, 0], -1, 1 - 2**-15)
            # The browser divides positive samples by 32767: up to a step too much.
            np.testing.assert_allclose(heard[2], cut, rtol=0, atol=1.6 * 2**-15)

    def test_plays_and_switches_in_place(self):
        self.find(".player .play")[0].click()
        self.wait("Number(document.querySelector('.player .transport input').value) > 0.3")
        self.find(".player .track input")[2].click()
        self.assertBetween(self.position(), 0.3, cases.LONG - 0.5)
        self.press("2")  # by key
        self.assertTrue(self.find(".player .track input")[1].is_selected())
        (when, start, peak), *others = self.js("return window.starts")
        self.assertLen(others, 2)
        self.assertGreater(peak, 0.5)
        for later, place, _ in others:
            self.assertAlmostEqual(later - place, when - start, delta=0.1 / 24000)  # of a sample
        at, position = self.js(
            "const player = document.querySelector('.player');"
            "return [Number(player.style.getPropertyValue('--at')),"
            "Number(player.querySelector('.transport input').value)]"
        )
        self.assertGreater(at, 0)
        self.assertAlmostEqual(at, position / cases.LONG, places=3)
        self.find(".player .play")[0].click()
        still = self.position()
        time.sleep(0.1)
        self.assertEqual(self.position(), still)

    def test_keyboard(self):
        from selenium.webdriver.common.keys import Keys

        radio = self.find(".player .track input")[0]
        radio.send_keys(Keys.ARROW_DOWN)
        self.assertTrue(self.find(".player .track input")[1].is_selected())
        self.press(Keys.ARROW_UP, Keys.ARROW_UP)
        self.assertTrue(self.find(".player .track input")[3].is_selected())
        self.press(Keys.ARROW_RIGHT)
        self.assertAlmostEqual(self.position(), 1.0, places=3)
        self.press(Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
        self.assertAlmostEqual(self.position(), 0.0, places=3)
        self.press(Keys.SPACE)
        self.wait("document.querySelector('.player .play').textContent === 'Pause'")
        self.press(Keys.SPACE)
        self.wait("document.querySelector('.player .play').textContent === 'Play'")
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        self.assertEqual(self.js(outline), "solid")

    def test_a_click_in_a_spectrogram_seeks(self):
        from selenium.webdriver import ActionChains

        picture = self.find(".player .picture")[1]
        offset = picture.size["width"] // 4
        ActionChains(self.driver).move_to_element_with_offset(picture, offset, 0).click().perform()
        self.assertAlmostEqual(self.position(), 0.75 * cases.LONG, delta=0.05)
        self.assertTrue(self.find(".player .track input")[1].is_selected())

    def test_widths_and_names(self):
        for width in (360, 1200):
            self.open(self.url, width)
            for player in self.find(".player:not([open]) summary"):
                player.click()
            size = self.js("return document.documentElement.scrollWidth")
            self.assertLessEqual(size, width)
        self.assertIn(cases.ODD, self.find(".player h3")[1].text)
        self.assertIn("an excerpt; numbers are for all 3 s", self.find(".player summary")[1].text)
        unnamed = self.js(
            "return [...document.querySelectorAll('button, input, select')].filter((e) =>"
            "!e.textContent.trim() && !e.labels?.length && !e.ariaLabel).length"
        )
        self.assertEqual(unnamed, 0)

    def test_dark(self):
        colours = {}
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            self.command("Emulation.setEmulatedMedia", features=features)
            colours[scheme] = self.js(
                "const of = (s) => getComputedStyle(document.querySelector(s));"
                "return [of('body').backgroundColor, of('body').color, of('.curve .point').fill]"
            )
        for light, dark in zip(colours["light"], colours["dark"], strict=True):
            self.assertNotEqual(light, dark)
        self.command("Emulation.setEmulatedMedia", features=[])

    def test_a_page_with_little(self):
        little = self.folder / "little.html"
        little.write_text(cases.written(rows=cases.rows()[:1], summary={}, items=[]), "utf-8")
        self.open(little.as_uri())
        self.assertFalse(self.find("#listen")[0].is_displayed())
        self.assertFalse(self.find("#blind")[0].is_displayed())

    @pytest.mark.slow
    def test_listening_test(self):
        self.find("input[name=listener]")[0].send_keys('Ada, "L"')
        seed = self.find("input[name=seed]")[0]
        seed.clear()
        seed.send_keys("7")
        self.find("button.start")[0].click()
        self.take_trial()
        self.open(self.url)  # a reload
        self.find("button.resume")[0].click()
        self.assertIn("Trial 2 of 2", self.find("dialog h2")[0].text)
        self.take_trial()
        outcome = self.find(".outcome")[0]
        self.assertRegex(outcome.text, r"less than 90 in \d of 2 trials")
        self.assertIn("15 %", outcome.text)
        self.find("button.download")[0].click()
        rows = list(csv.DictReader(io.StringIO(self.downloaded(), newline="")))

        columns = "listener,trial,file,condition,kbps,score,seed,order,time"
        self.assertEqual(",".join(rows[0]), columns)
        self.assertEqual({row["listener"] for row in rows}, {'Ada, "L"'})
        self.assertEqual({row["seed"] for row in rows}, {"7"})
        for item in cases.items():
            of_item = [row for row in rows if row["file"] == item.file]
            expected = [("hidden reference", ""), ("anchor 3.5 kHz", "")]
            expected += [(r.codec, f"{r.kbps:g}") for r in item.renditions]
            self.assertCountEqual([(r["condition"], r["kbps"]) for r in of_item], expected)
            for row in of_item:  # the scores of their letters
                self.assertEqual(int(row["score"]), 60 + int(row["order"]))
                self.assertRegex(row["time"], r"^20\d\d-\d\d-\d\dT")
        self.assertFalse(any(row["trial"] not in "12" for row in rows))

    def take_trial(self):
        """Listen by keys and score 61, 62 and so on; check that the page hides conditions."""
        next_button = self.find("dialog .next")[0]
        rows = self.find("dialog .stimulus")
        for index in range(len(rows) + 1):
            self.assertFalse(next_button.is_enabled())
            self.press(str(index))
            name = "the reference" if index == 0 else chr(64 + index)
            status = "document.querySelector('dialog [role=status]').textContent"
            self.wait(f"!/hear:[^.]*{name}[,.]/.test({status})")
        self.assertFalse(next_button.is_enabled())
        for index, row in enumerate(rows):
            self.js(
                "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
                row.find_element("css selector", "input"),
                61 + index,
            )
        dialog = self.js("return document.querySelector('dialog').outerHTML")
        for name in (cases.MODEL, "opus", "hidden reference", "anchor", "kbps", "data:", "blob:"):
            self.assertNotIn(name, re.sub(r"<h2.*?</h2>", "", dialog))
        self.assertTrue(next_button.is_enabled())
        next_button.click()

    def downloaded(self):
        end = time.monotonic() + 20
        while not (found := list(self.folder.glob("scores_*.csv"))):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        return found[0].read_bytes().decode("utf-8")
