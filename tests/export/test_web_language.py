"""The language model of the page, as node computes it, against numpy and Python's files."""

import dataclasses
import io
import json
import pathlib
import shutil
import struct
import subprocess
import tempfile
import zlib

import numpy as np
from absl.testing import absltest

from encodec_hk import bitstream
from encodec_hk.language import language_file
from encodec_hk.system import file_paths
from tests import bitstream_files
from tests.language import numpy_language
from tests.language import random_language

MODEL = random_language.model()
ORACLE = numpy_language.Oracle(MODEL.params, MODEL.sizes.dilations)
LIKE = dataclasses.replace(
    bitstream_files.header(num_codebooks=4, bits=6, num_samples=64 * 2400 - 7),
    **{"hop_length": 2400, "language": MODEL.fingerprint, "fingerprint": MODEL.codec},
)  # ten frames in a block
FACTS = {
    "codes_of": {"name": LIKE.name, "fingerprint": LIKE.fingerprint},
    **{"sample_rate": LIKE.sample_rate, "channels": LIKE.channels, "hop": 2400},
    **{"codebook_size": 64, "num_codebooks": 4, "bandwidths": {"1": 4}},
    "language": {"fingerprint": MODEL.fingerprint, "num_codebooks": 4},
}

# Runs a piece of JavaScript with the modules, the arguments and the coder of the model.
NODE = """
import { readFileSync } from "node:fs";
const [folder, argument] = process.argv.slice(1);
const load = (name) => import(`${folder}/${name}.js`);
const ecdc = await load("ecdc");
const { CodeModel } = await load("code_model");
const { LanguageCoder } = await load("language_coder");
const { Signal } = await load("signal");
const given = JSON.parse(readFileSync(argument));
const bytesOf = (text) => new Uint8Array(Buffer.from(text, "hex"));
const hexOf = (bytes) => Buffer.from(bytes).toString("hex");
const coder = new LanguageCoder(new CodeModel(bytesOf(given.model)));
const messageOf = (run) => {
  try {
    return run() && null;
  } catch (error) {
    if (!(error instanceof ecdc.EcdcError)) throw error;
    return error.message;
  }
};
"""


class Coder:
    """What a writer of .ecdc files takes for a coder."""

    rows, max_codebooks, codec = 1, 4, MODEL.codec

    def __init__(self, fingerprint):
        self.fingerprint = fingerprint

    def encode(self, blocks):
        return [ORACLE.encode(block) for block in blocks]


def codes():
    """Codes [K, F] of which the model expects most, but none in the fourth block."""

    def block(number):
        def choose(frame, k, frequencies):
            is_other = (frame + k + number) % 7 == 0
            return (frame * 13 + number) % 64 if is_other else int(frequencies.argmax())

        return ORACLE.walk(4, 10, choose)

    found = [block(number) for number in range(6)]
    found[3] = random_language.codes(1, 10)[0]
    return np.concatenate([*found, found[0][:, :4]], axis=1).astype(np.int32)


def written(header=LIKE):
    file = io.BytesIO()
    writer = bitstream.open_writer(file, header, coder=header.language and Coder(header.language))
    writer.write(codes()[: header.num_codebooks])
    writer.finish(header.num_samples)
    return file.getvalue()


@absltest.skipIf(shutil.which("node") is None, "node is not installed: apt-get install nodejs")
class WebLanguageTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        language_file.save(self.folder / "model.safetensors", MODEL)

    def node(self, script, **given):
        """Return what a script leaves in `found`."""
        model = (self.folder / "model.safetensors").read_bytes().hex()
        argument = self.folder / "given.json"
        argument.write_text(json.dumps({"model": model, "facts": FACTS, **given}))
        script = f"{NODE}{script}\nconsole.log(JSON.stringify(found));"
        command = ["node", "--input-type=module", "-e", script]
        command += [file_paths.shipped("docs/web").as_uri(), str(argument)]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_blocks(self):
        blocks = [
            random_language.codes(1, frames, num_codebooks=count)[0]
            for frames, count in ((9, 4), (1, 4), (12, 1), (30, 3))
        ]
        data = [ORACLE.encode(block) for block in blocks]
        found = self.node(
            """
            const found = given.blocks.map(({ codes, frames, data }) => {
              const count = codes.length / frames;
              const coded = coder.encode(Int32Array.from(codes), count);
              const decode = (bytes) => coder.decode(bytes, frames, count);
              const wrong = [coded.slice(0, -2), coded.slice(0, -1), coded.slice(0, 2),
                new Uint8Array([0, 0, ...coded.slice(2)]), new Uint8Array([...coded, 1, 2])];
              const changed = coded.slice();
              changed[6] ^= 1;
              return [hexOf(coded), [...decode(coded)], [...wrong, changed].map(decode)];
            });
            """,
            blocks=[
                {"codes": block.T.ravel().tolist(), "frames": block.shape[1]} for block in blocks
            ],
        )
        for block, own, (coded, decoded, wrong) in zip(blocks, data, found, strict=True):
            self.assertEqual(coded, own.hex())
            self.assertEqual(decoded, block.T.ravel().tolist())
            self.assertEqual(wrong, [None] * 6)

    def test_files(self):
        """The same bytes as Python's, of which one block is packed, and fewer codebooks."""
        few = dataclasses.replace(LIKE, num_codebooks=2)
        data, packed = written(), written(dataclasses.replace(LIKE, language=None))
        self.assertLess(len(data), len(packed))
        codes_found, is_coded, *found, most = self.node(
            """
            const file = ecdc.read(bytesOf(given.data));
            const signal = Signal.ofFile("title", given.facts, bytesOf(given.data), 600);
            for (const block of file.blocks) signal.add(ecdc.codesOf(file, block, coder));
            const write = (count) => {
              const parts = [...ecdc.write(signal.headerOf(count), signal.codesOf(count), coder)];
              return Buffer.concat(parts).toString("hex");
            };
            const most = ecdc.sizeOf(signal.headerOf(4));
            const coded = file.blocks.map((block) => block.isCoded);
            const found = [[...signal.codes], coded, write(4), write(2), most];
            """,
            data=data.hex(),
        )
        self.assertEqual(codes_found, codes().T.ravel().tolist())
        self.assertEqual(is_coded, [True, True, True, False, True, True, True])
        self.assertEqual(found, [data.hex(), written(few).hex()])
        self.assertEqual(most, len(packed) + 32)

    def test_errors(self):
        data = bytearray(written())
        start = 9 + struct.unpack("!I", data[5:9])[0]
        size = struct.unpack("!I", data[start + 12 : start + 16])[0]
        data[start + 20 + size - 1] ^= 1  # of the first block's last word
        rest = data[start + 4 : start + 16]
        rest += struct.pack(
            "!I", zlib.crc32(data[start + 20 : start + 20 + size], zlib.crc32(rest))
        )
        data[start + 2 : start + 20] = struct.pack("!H", zlib.crc32(rest) & 0xFFFF) + rest
        other = dataclasses.replace(LIKE, language="ab" * 32)
        found = self.node(
            """
            const { facts } = given;
            const open = (facts, data) => Signal.ofFile("title", facts, bytesOf(data), 600);
            const few = { ...facts, language: { ...facts.language, num_codebooks: 3 } };
            const [whole, other, damaged] = given.files;
            const found = [
              messageOf(() => open({ ...facts, language: undefined }, whole)),
              messageOf(() => open(facts, other)),
              messageOf(() => open(few, whole)),
              messageOf(() => {
                const { file } = open(facts, damaged);
                return file.blocks.map((block) => ecdc.codesOf(file, block, coder));
              }),
              open(few, given.packed).headerOf(4).language,
            ];
            """,
            files=[written().hex(), written(other).hex(), bytes(data).hex()],
            packed=written(dataclasses.replace(LIKE, language=None)).hex(),
        )
        own = MODEL.fingerprint[:8]
        self.assertEqual(
            found,
            [
                "The file needs a language model, which this page does not have.",
                f"The file needs the language model abababab, this page has {own}.",
                "The file has 4 codebooks, its language model 3.",
                "The file is damaged after 0.0 s.",
                "",
            ],
        )


if __name__ == "__main__":
    absltest.main()
