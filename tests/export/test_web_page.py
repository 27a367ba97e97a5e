"""The folder of the page, and its .ecdc files as node writes and reads them."""

import base64
import functools
import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import types
from unittest import mock

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from encodec_hk import bitstream
from encodec_hk.export import model_facts
from encodec_hk.export import web_page
from encodec_hk.export import web_runtime
from encodec_hk.language import language_file
from encodec_hk.system import file_paths
from tests import bitstream_files
from tests import random_networks
from tests import web_cases
from tests.language import random_language

SOURCES = file_paths.shipped("docs/web")

# Reads a file, and writes it again with some of its codebooks.
NODE = """
import { readFileSync, writeFileSync } from "node:fs";
const [folder, source, target, count] = process.argv.slice(1);
const ecdc = await import(`${folder}/ecdc.js`);
const { prefix } = await import(`${folder}/packing.js`);
try {
  const file = ecdc.read(new Uint8Array(readFileSync(source)));
  const all = Int32Array.from(file.blocks.flatMap((block) => [...ecdc.codesOf(file, block)]));
  const codes = prefix(all, file.codebooks, Number(count) || file.codebooks);
  const header = { ...file, codebooks: Number(count) || file.codebooks };
  const bytes = Buffer.concat([...ecdc.write(header, codes)]);
  if (bytes.length !== ecdc.sizeOf(header)) throw new Error(`sizeOf: ${ecdc.sizeOf(header)}`);
  writeFileSync(target, bytes);
} catch (error) {
  if (!(error instanceof ecdc.EcdcError)) throw error;
  console.log(error.message);
}
"""


@functools.cache
def tiny():
    return encodec_hk.load("encodec_tiny")


class WebPageTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def write(self, codec, **arguments):
        page = self.folder / "page"
        page.mkdir(exist_ok=True)
        web_page.write(codec, page, model_facts.facts(codec, "MIT"), **arguments)
        return page

    def test_files(self):
        page = self.write(tiny(), runtime=web_cases.package(self.folder / "package"))
        found = {path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file()}
        sources = {path.name for path in SOURCES.iterdir()} - {"package.json"}
        self.assertContainsSubset(sources | {web_page.MANIFEST}, found)
        text = "".join((page / name).read_text() for name in sources)
        for name in {path.split("/")[-1] for path in found if path.startswith("runtime/")}:
            self.assertIn(f"runtime/{name}", text)
        clips = json.loads((page / "clips" / "clips.json").read_text())
        self.assertLen(clips, 5)
        self.assertIn({"file": "music_guitar.flac", "name": "Guitar"}, clips)
        self.assertIn("Microsoft", (page / "runtime" / "LICENSE.txt").read_text())
        self.assertIn("CC0", (page / "clips" / "LICENSES.md").read_text())
        facts = json.loads((page / web_page.MANIFEST).read_text())
        self.assertEqual(facts["encoder"]["num_codebooks"], 8)

    def test_language_model(self):
        runtime = web_cases.package(self.folder / "package")
        path = self.folder / "a_language.safetensors"
        model = random_language.model(codec=tiny().fingerprint)
        for own in (random_language.model(), model):  # of another codec, of this one
            language_file.save(path, own)
            page = self.write(tiny(), runtime=runtime, language=path)
            facts = json.loads((page / web_page.MANIFEST).read_text())
            self.assertEqual("language" in facts, own is model)
            self.assertEqual((page / "model" / "language.safetensors").exists(), own is model)
            if own is not model:
                shutil.rmtree(page)
        copy = page / "model" / facts["language"]["file"]
        self.assertEqual(copy.read_bytes(), path.read_bytes())
        self.assertIn(copy.name, facts["files"])
        self.assertEqual(facts["language"]["fingerprint"], model.fingerprint)

    def test_nothing_of_others_is_in_the_sources(self):
        for path in SOURCES.iterdir():
            self.assertNotRegex(path.read_text(), r"https?://|resolved")
            self.assertIn(path.suffix, (".html", ".css", ".js", ".json"))

    def test_codecs_that_the_page_cannot_hold(self):
        for overrides, problem in (
            (random_networks.VARIANTS["look_ahead"], "is not causal"),
            (random_networks.VARIANTS["segmented"], "is not causal"),
            ({"channels": 2}, "has 2 channels"),
        ):
            model_config = random_networks.small(**overrides)
            params = random_networks.random_params(model_config)
            codec = encodec_hk.Codec(model_config, params, name="other")
            with self.assertRaisesRegex(ValueError, f"^web: other {problem}; the page streams"):
                self.write(codec, runtime=self.folder)

    def test_bandwidth(self):
        with self.assertRaisesRegex(ValueError, "web: takes no --bandwidth"):
            self.write(tiny(), num_codebooks=4)


class WebRuntimeTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        (self.folder / "runtime").mkdir()

    def check_error(self, message, package=None):
        with self.assertRaisesRegex(ValueError, message):
            web_runtime.write(self.folder / "runtime", package)
        self.assertEmpty(list((self.folder / "runtime").iterdir()))

    def fake_npm(self, returncode=0, stderr="", archive=b""):
        """Let `npm pack` end like this, with an archive."""

        def pack(command, *, cwd, **_):
            if not returncode:
                (cwd / "package.tgz").write_bytes(archive)
            return types.SimpleNamespace(returncode=returncode, stderr=stderr)

        self.enter_context(mock.patch.object(shutil, "which", return_value="npm"))
        self.enter_context(mock.patch.object(subprocess, "run", pack))

    def test_wrong_folders(self):
        version, _ = web_runtime.pinned()
        other = web_cases.package(self.folder / "other", "1.0.0")
        self.check_error(f"runtime: .*holds .* 1.0.0, must hold onnxruntime-web {version}$", other)
        self.check_error(r"runtime: .* holds no npm package, must hold", self.folder)
        (self.folder / "package.json").write_text("[]")
        self.check_error(r"runtime: .* holds no npm package, must hold", self.folder)
        broken = web_cases.package(self.folder / "broken")
        (broken / "dist" / web_cases.RUNTIME[0]).unlink()
        self.check_error(f"{web_cases.RUNTIME[0]}: No such file", broken)

    def test_no_npm(self):
        self.enter_context(mock.patch.object(shutil, "which", return_value=None))
        self.check_error("web: npm, .* is not installed; --runtime=FOLDER takes onnxruntime-web@")

    def test_npm_fails(self):
        self.fake_npm(returncode=1, stderr="npm error code ENETWORK\nnpm error more\n")
        self.check_error(r"npm pack \S+ failed \(code ENETWORK\); --runtime=FOLDER takes")

    def test_another_archive(self):
        self.fake_npm(archive=b"something else")
        self.check_error("has the sha512 .*, must be ")

    def test_unpacks_the_archive(self):
        source = web_cases.package(self.folder / "package")
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            archive.add(source, "package")
        digest = base64.b64encode(hashlib.sha512(file.getvalue()).digest()).decode()
        pinned = mock.patch.object(
            web_runtime, "pinned", return_value=("1.2.3", f"sha512-{digest}")
        )
        self.enter_context(pinned)
        self.fake_npm(archive=file.getvalue())
        web_runtime.write(self.folder / "runtime")
        found = {path.name: path.read_text() for path in (self.folder / "runtime").iterdir()}
        self.assertIn("onnxruntime-web 1.2.3", found.pop("LICENSE.txt"))
        self.assertEqual(found, {name.replace(".mjs", ".js"): name for name in web_cases.RUNTIME})


@absltest.skipIf(shutil.which("node") is None, "node is not installed: apt-get install nodejs")
class EcdcTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def through_node(self, data, count=0):
        """What node reads and writes again; what it says, if it cannot read it."""
        source, target = self.folder / "in.ecdc", self.folder / "out.ecdc"
        source.write_bytes(data)
        command = ["node", "--input-type=module", "-e", NODE, SOURCES.as_uri()]
        command += [str(source), str(target), str(count)]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return target.read_bytes() if target.exists() else done.stdout.strip()

    @parameterized.parameters(
        (10, 8, 48_001), (10, 16, 1), (1, 3, 30_000), (24, 2, 70_000), (10, 2, 3_000_000)
    )
    def test_same_bytes(self, bits, num_codebooks, num_samples):
        fields = {"bits": bits, "num_codebooks": num_codebooks, "num_samples": num_samples}
        like = bitstream_files.header(**fields, name="größer", fingerprint=None)
        codes = bitstream_files.random_codes(like, -(-num_samples // 320))
        data = bitstream_files.write(like, codes, num_samples)
        self.assertEqual(self.through_node(data), data)

    def test_first_codebooks(self):
        like = bitstream_files.header(num_samples=50_000)
        codes = bitstream_files.random_codes(like, 157)
        few = bitstream_files.write(
            bitstream_files.header(num_codebooks=3, num_samples=50_000), codes[:3], 50_000
        )
        self.assertEqual(self.through_node(bitstream_files.write(like, codes, 50_000), 3), few)

    def test_short_blocks_and_a_length_at_the_end(self):
        like = bitstream_files.header()
        codes = bitstream_files.random_codes(like, 157)
        live = bitstream_files.write(like, codes, 50_000, cuts=(3, 90), flushes=(0, 1))
        known = bitstream_files.header(num_samples=50_000)
        self.assertEqual(self.through_node(live), bitstream_files.write(known, codes, 50_000))

    def test_other_models(self):
        like = bitstream_files.header(bitstream_files.SEGMENTED, num_samples=1000)
        codes = bitstream_files.random_codes(like, 4)
        data = bitstream_files.write(like, codes, 1000, scales=[1.0])
        self.assertIn("segments", self.through_node(data))

    def test_damage(self):
        """No byte can change without an error, but those of the index and of its checksum."""
        like = bitstream_files.header(num_samples=30_000)
        data = bitstream_files.write(like, bitstream_files.random_codes(like, 94), 30_000)
        rng = np.random.default_rng(0)
        for at in (5, 30, 76, 95, 97, 99, 103, 107, 120, *rng.integers(120, len(data), 3)):
            changed = bytearray(data)
            changed[at] ^= 0x10
            self.assertRegex(self.through_node(bytes(changed)), "^The file.* (damaged|cut off)")
        self.assertEqual(self.through_node(b""), "This is no .ecdc file.")
        self.assertIn("cut off", self.through_node(data[:60]))
        with self.assertRaises(bitstream.EcdcError):
            bitstream.open_reader(io.BytesIO(data[:60]))


if __name__ == "__main__":
    absltest.main()
