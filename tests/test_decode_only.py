"""Codecs with a Vocos decoder: of codes of another model, and without an encoder."""

import contextlib
import functools
import io
import pathlib
import pickle
import tempfile
import warnings

import numpy as np
import safetensors
from absl.testing import absltest
from absl.testing import parameterized

import encodec_hk
from encodec_hk import bitstream
from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.commands import infer
from encodec_hk.sound import sound_files
from encodec_hk.training import loop
from encodec_hk.transcode import ecdc
from tests import random_networks

FACTS = {"source": "a test", "source_sha256": "", "licence": "CC0-1.0"}
MAKER = checkpoint.CodesOf("maker", "another test", "a" * 64)


@functools.cache
def model_config():
    return random_networks.small(decoder="vocos", sample_rate=12000)  # of sound files: from 8000 on


def params(*networks):
    """The parameters of some networks, such as "encoder"."""
    drawn = random_networks.random_params(model_config())
    return {key: value for key, value in drawn.items() if key.split("/")[0] in networks}


@functools.cache
def whole(**settings):
    return encodec_hk.Codec(
        model_config(), params("encoder", "quantizer", "decoder"), name="whole", **settings
    )


@functools.cache
def decoder():
    return encodec_hk.Codec(model_config(), params("quantizer", "decoder"), name="alone")


def noise(length):
    return 0.3 * np.random.default_rng(0).standard_normal((length, 1)).astype(np.float32)


class DecodeOnlyTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def save(self, *networks, codes_of=None, name="alone"):
        path = self.folder / f"{name}.safetensors"
        checkpoint.save(
            path, params(*networks), model_config(), name=name, codes_of=codes_of, **FACTS
        )
        return path

    def test_decodes_as_with_an_encoder(self):
        encoded = whole().encode([noise(600), noise(301)], num_codebooks=3)
        expected = whole().decode(encoded)
        bare = decoder().encoded(encoded.codes, num_frames=encoded.num_frames)
        found = decoder().decode(bare.replace(num_samples=encoded.num_samples))
        np.testing.assert_array_equal(found, expected)
        with decoder().stream_decoder(num_codebooks=3) as stream:
            pieces = [stream.push(encoded.codes[0][:, at : at + 1]) for at in range(50)]
            pieces.append(stream.finish())
        np.testing.assert_allclose(np.concatenate(pieces), expected[0], rtol=0, atol=1e-6)
        self.assertRegex(repr(decoder()), "alone: .*, decodes only>$")
        again = pickle.loads(pickle.dumps(decoder()))
        self.assertFalse(again.has_encoder)
        np.testing.assert_array_equal(again.decode(bare), decoder().decode(bare))

    def test_encoding_says_what_is_missing(self):
        message = "decodes only: it has no encoder; `convert --join=CHECKPOINT` adds that"
        block = np.zeros((1, 12, 1), np.float32)
        for call in (
            lambda: decoder().encode([noise(600)]),
            decoder().stream_encoder,
            lambda: decoder().encode_block(None, block, None, None, num_codebooks=1),
        ):
            with self.assertRaisesRegex(ValueError, message):
                call()

    def test_files(self):
        path = self.save("quantizer", "decoder", codes_of=MAKER)
        loaded = checkpoint.load(path)
        self.assertEqual(loaded.codes_of, MAKER)
        self.assertEqual(loaded.metadata["format_version"], "2")
        codec = encodec_hk.load(path)
        self.assertFalse(codec.has_encoder)
        self.assertEqual(codec.codes_of, MAKER)
        self.assertEqual(pickle.loads(pickle.dumps(codec)).codes_of, MAKER)
        self.assertTrue(encodec_hk.load(self.save("encoder", "quantizer", "decoder")).has_encoder)
        with self.assertRaisesRegex(ValueError, "- quantizer.codebooks"):
            self.save("decoder")
        seanet = random_networks.small()
        drawn = random_networks.random_params(seanet)
        alone = {key: value for key, value in drawn.items() if not key.startswith("encoder")}
        with self.assertRaisesRegex(ValueError, "- encoder/conv_in.b"):
            checkpoint.save(self.folder / "x.safetensors", alone, seanet, name="x", **FACTS)

    @parameterized.parameters("{", "[]", '{"name": "a"}', '{"name":1,"source":"","fingerprint":""}')
    def test_damaged_codes_of(self, text):
        path = self.save("quantizer", "decoder")
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata())
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        safetensors.numpy.save_file(tensors, path, metadata=metadata | {"codes_of": text})
        with self.assertRaisesRegex(ValueError, "its metadata has a damaged codes_of"):
            checkpoint.load(path)

    def test_training_needs_an_encoder(self):
        path = self.save("quantizer", "decoder")
        variant = lambda: None  # noqa: E731
        variant.model = model_config()
        with self.assertRaisesRegex(ValueError, "decodes only, a run needs a checkpoint with an"):
            loop.initial_params(variant, path)

    def infer(self, *arguments, **settings):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            return infer.run(None, *map(str, arguments), **settings)

    def test_infer(self):
        maker = self.save("encoder", "quantizer", "decoder", codes_of=MAKER, name="maker")
        alone = self.save("quantizer", "decoder", codes_of=MAKER)
        sound_files.write(self.folder / "a.wav", noise(9000), 12000)
        codes = self.folder / "a.ecdc"
        self.infer(self.folder / "a.wav", codes, checkpoint=str(maker))
        found = {}
        for name, path in (("maker", maker), ("alone", alone)):
            self.infer(codes, self.folder / f"{name}.wav", checkpoint=str(path))
            found[name] = sound_files.read(self.folder / f"{name}.wav").samples
        self.assertLen(found["alone"], 9000)
        np.testing.assert_array_equal(found["alone"], found["maker"])
        with self.assertRaisesRegex(ValueError, "decodes only: it has no encoder"):
            self.infer(self.folder / "a.wav", self.folder / "b.wav", checkpoint=str(alone))
        self.assertFalse((self.folder / "b.wav").exists())


class CodesOfTest(parameterized.TestCase):
    def test_the_decoder_does_not_count(self):
        """With other parameters or fields of the decoder, the codes are the same."""
        own = whole().codes_of
        self.assertEqual(own[:2], ("whole", ""))
        self.assertNotEqual(own.fingerprint, whole().fingerprint)
        changed = params("encoder", "quantizer", "decoder")
        changed["decoder/head"]["scale"] += 1
        other = encodec_hk.Codec(model_config(), changed, name="whole")
        self.assertEqual(other.codes_of, own)
        self.assertNotEqual(other.fingerprint, whole().fingerprint)
        self.assertEqual(
            own.fingerprint,
            checkpoint.codes_fingerprint(
                random_networks.small(decoder="vocos", sample_rate=12000, vocos={"causal": True}),
                changed,
            ),
        )
        changed["encoder/conv_in"]["b"] += 1
        other = encodec_hk.Codec(model_config(), changed, name="whole")
        self.assertNotEqual(other.codes_of.fingerprint, own.fingerprint)

    def test_of_a_seanet_it_is_the_fingerprint(self):
        seanet = random_networks.small()
        codec = encodec_hk.Codec(seanet, random_networks.random_params(seanet), name="a")
        self.assertEqual(codec.codes_of, ("a", "", codec.fingerprint))

    def test_headers_name_whose_codes_they_are(self):
        codec = encodec_hk.Codec(
            model_config(), params("encoder", "quantizer", "decoder"), name="b", codes_of=MAKER
        )
        header = ecdc.header(codec, 2, 100)
        self.assertEqual((header.name, header.fingerprint), ("maker", "a" * 64))
        ecdc.check(header, codec)
        with self.assertRaisesRegex(
            ValueError, r"made with maker \(fingerprint a{16}\), the check"
        ):
            ecdc.check(header, whole())

    def test_a_decoder_that_knows_no_fingerprint_goes_by_name(self):
        known = ecdc.header(whole(), 2, 100)
        ecdc.check(
            known,
            encodec_hk.Codec(
                model_config(),
                params("quantizer", "decoder"),
                codes_of=checkpoint.CodesOf("whole", "", None),
            ),
        )
        self.assertIsNone(decoder().codes_of.fingerprint)
        with self.assertRaisesRegex(ValueError, "made with whole, the checkpoint here is alone;"):
            ecdc.check(known, decoder())

    def test_codes_of_metas_model_are_its_files(self):
        """A decoder of Meta's codes writes version 0, and reads it."""
        fields = {"ratios": (20, 16), "num_filters": 2, "sample_rate": 24000, "codebook_size": 1024}
        own = random_networks.small(
            decoder="vocos", num_lstm_layers=0, vocos={"n_fft": 640}, **fields
        )
        codec = encodec_hk.Codec(
            own,
            random_networks.random_params(own),
            name="vocos",
            codes_of=checkpoint.CodesOf("encodec_24khz", "facebook/encodec_24khz", "b" * 64),
        )
        header = ecdc.header(codec, 3, 700)
        self.assertEqual((header.version, header.name), (0, "encodec_24khz"))
        ecdc.check(header, codec)
        ecdc.check(bitstream.meta_header("encodec_24khz", 2, 100), codec)


class NormsTest(parameterized.TestCase):
    def test_other_bandwidths_take_the_nearest_and_say_so_once(self):
        codec = encodec_hk.Codec(model_config(), params("quantizer", "decoder"))
        rates = model_config().bandwidths  # of 1 and 3 codebooks
        codes = np.random.default_rng(0).integers(0, 16, (1, 3, 20))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for count in (1, 2, 3, 2):
                codec.decode(codec.encoded(codes[:, :count]))
        two = config.bandwidth_for(model_config(), 2)
        message = f"the decoder has no norms for {two:g} kbps, it takes those for {rates[0]:g}"
        self.assertEqual([str(each.message) for each in caught], [message])


if __name__ == "__main__":
    absltest.main()
