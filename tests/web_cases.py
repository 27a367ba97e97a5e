"""A page with a model, served to a browser, and what the page computes there."""

import contextlib
import functools
import http.server
import io
import json
import pathlib
import threading
import time
import unittest

import numpy as np
import soundfile

from encodec_hk import bitstream
from encodec_hk.export import model_facts
from encodec_hk.export import web_page
from encodec_hk.export import web_runtime
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files

CLIPS = pathlib.Path(__file__).parents[1] / "assets" / "clips"
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")

# Keeps what the page's worker sends, and for every sound that starts: its time, size and gain.
RECORD = """
window.sent = [], window.starts = [];
window.Worker = class extends Worker {
  constructor(...all) {
    super(...all);
    this.addEventListener("message", ({ data }) => window.sent.push(data));
  }
};
const { start, connect } = AudioBufferSourceNode.prototype;
AudioBufferSourceNode.prototype.connect = function (gain) {
  this.into = gain;
  return connect.call(this, gain);
};
AudioBufferSourceNode.prototype.start = function (when) {
  const samples = this.buffer.getChannelData(0);
  window.starts.push({ when, size: samples.length, into: this.into, samples });
  return start.call(this, when);
};
"""


def package(folder, version=None):
    """A folder like the unpacked npm package."""
    (folder / "dist").mkdir(parents=True)
    for name in RUNTIME:
        (folder / "dist" / name).write_text(name)
    facts = {"name": web_runtime.PACKAGE, "version": version or web_runtime.pinned()[0]}
    (folder / "package.json").write_text(json.dumps(facts))
    return folder


@contextlib.contextmanager
def served(folder, headers=None):
    """Serve a folder as `python3 -m http.server` does, with more headers; yield its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def end_headers(self):
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            super().end_headers()

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def write_page(codec, folder, language=None):
    """Export a page with ONNX Runtime from npm; skip the test if that cannot be had.

    `language` is the file of a language model.
    """
    folder.mkdir()
    try:
        web_page.write(codec, folder, model_facts.facts(codec, "MIT"), language=language)
    except ValueError as error:
        if "npm" in str(error):
            raise unittest.SkipTest(str(error)) from error
        raise


def sound(name, seconds=None):
    """A clip, float32 [T], at 24 kHz."""
    clip = sound_files.read(CLIPS / f"{name}.flac")
    samples = resampling.resample(resampling.mix(clip.samples, 1), clip.sample_rate, 24000)
    return samples[: seconds and int(seconds * 24000), 0]


def wav(samples, subtype):
    file = io.BytesIO()
    soundfile.write(file, samples, 24000, subtype, format="WAV")
    return file.getvalue()


def read(data, coder=None):
    """The header and the codes [K, F] of an .ecdc file."""
    reader = bitstream.open_reader(io.BytesIO(data), coder=lambda header: coder)
    codes = np.concatenate([block.codes for block in reader.blocks()], axis=1)
    return reader.header, codes


class Page:
    """The page in a browser."""

    def __init__(self, driver, folder, url):
        self.driver, self.folder, self.url = driver, folder, url
        self.command("Page.addScriptToEvaluateOnNewDocument", source=RECORD)
        self.resize(1200)

    def open(self, url=None):
        self.driver.get(url or self.url)
        self.wait("document.documentElement.dataset.ready === ''")

    def command(self, name, **arguments):
        return self.driver.execute_cdp_cmd(name, arguments)

    def resize(self, width):
        self.command(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def text(self, name):
        return self.js("return document.getElementById(arguments[0]).textContent", name)

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def wait(self, script, seconds=60.0):
        end = time.monotonic() + seconds
        while not (found := self.js(f"return {script}")):
            assert time.monotonic() < end, f"{script}: {self.text('status')}{self.text('error')}"
            time.sleep(0.03)
        return found

    def give(self, name, data):
        """Choose a file, as a user does; what the worker has sent before is dropped."""
        self.js("window.sent.length = 0; delete document.documentElement.dataset.coded")
        path = self.folder / name
        path.write_bytes(data)
        self.find("#file").send_keys(str(path))

    def code(self, name, data):
        """Choose a file and wait until it is coded."""
        self.give(name, data)
        self.wait(
            f"document.documentElement.dataset.coded === {name!r}"
            " || document.getElementById('error').checkVisibility()"
        )
        assert not self.find("#error").is_displayed(), self.text("error")

    def decoded(self, track):
        """What the worker has decoded for a track, float32 [T]."""
        return np.array(
            self.js(
                "return window.sent.filter((m) => m.kind === 'sound' && m.track === arguments[0])"
                ".flatMap((m) => [...m.samples])",
                track,
            ),
            np.float32,
        )

    def error(self, name, data):
        """Choose a file and return the error that the page shows."""
        self.js("document.getElementById('error').textContent = ''")
        self.give(name, data)
        self.wait("document.getElementById('error').textContent")
        return self.text("error")

    def saved(self, name):
        """Save, and return the bytes of the file."""
        self.find("#save").click()
        end = time.monotonic() + 20
        while not (self.folder / name).is_file():
            assert time.monotonic() < end, f"{name}: {list(self.folder.iterdir())}"
            time.sleep(0.03)
        return (self.folder / name).read_bytes()
