"""Streams give what the whole gives, however they are cut; each stream of a batch on its own."""

import chex
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import encodec_hk
from encodec_hk.networks import reach
from tests import compilation
from tests import random_networks

VARIANTS = {
    **random_networks.VARIANTS,
    "fourier_ahead": {"encoder": "fourier", "causal": False, "pad_mode": "constant"},
    "mixed": {"encoder": "fourier"},  # codes sooner than a SEANet decoder takes them
    "causal_zeros": {"pad_mode": "constant", "channels": 2},
    "overlapping": {  # 120 samples, one every 48
        "causal": False,
        "norm": "time_group_norm",
        "segment_seconds": 0.1,
        "overlap": 0.6,
    },
}
FEW = ("causal", "look_ahead", "segmented", "spectra")
OTHERS = ("causal_zeros", "overlapping", "fourier_ahead", "mixed")
BATCH = 3


def make(variant, **changes):
    model_config = random_networks.small(**VARIANTS[variant], **changes)
    return encodec_hk.Codec(
        model_config, random_networks.random_params(model_config), block_seconds=0.1
    )


def draw(codec, length, seed=0):
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal((length, codec.channels)).astype(np.float32)


def cut(steps, at):
    """Pieces of steps [n, ...] between the places `at`, empty ones among them."""
    return np.split(steps, sorted(min(place, len(steps)) for place in at))


class StreamsTest(chex.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.codecs = {name: make(name) for name in VARIANTS}
        cls.encoders = {name: codec.stream_encoder() for name, codec in cls.codecs.items()}
        cls.decoders = {name: codec.stream_decoder() for name, codec in cls.codecs.items()}

    def assert_streams_are_whole(self, variant, length, at, frames_at):
        codec, encoder = self.codecs[variant], self.encoders[variant]
        audio = draw(codec, length)
        whole = codec.encode([audio])
        pieces = [encoder.push(piece) for piece in cut(audio, at)] + [encoder.finish()]
        codes, scales = pieces, None
        if codec.model_config.normalize:
            codes, scales = zip(*pieces, strict=True)
            np.testing.assert_array_equal(np.concatenate(scales), whole.scales[0])
        codes = np.concatenate(codes, axis=1)
        np.testing.assert_array_equal(codes, whole.codes[0])
        chex.assert_type(codes, np.int32)
        expected = codec.decode(whole)[0]
        decoder = self.decoders[variant]
        # What an encoder gives is what a decoder takes.
        parts = [decoder.push(piece) for piece in pieces] + [decoder.finish(length)]
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=2e-6)
        # And all scales at once, codes in other pieces.
        own = None if whole.scales is None else whole.scales[0]
        parts = []
        for piece in cut(codes.T, frames_at):
            parts.append(decoder.push(piece.T, own))
            own = None
        parts.append(decoder.finish(length))
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=2e-6)

    @given(data=st.data())
    @hypothesis_settings(max_examples=25)
    def test_any_cut(self, data):
        variant = data.draw(st.sampled_from(FEW))
        length = data.draw(st.integers(1, 700))
        at = data.draw(st.lists(st.integers(0, length), max_size=12))
        frames_at = data.draw(st.lists(st.integers(0, length // 12 + 1), max_size=12))
        self.assert_streams_are_whole(variant, length, at, frames_at)

    @parameterized.product(variant=FEW + OTHERS, length=(1, 12, 83, 84, 120, 238, 239, 400))
    @pytest.mark.few(*range(8 * len(FEW)))
    def test_one_by_one(self, variant, length):
        every = range(1, length)
        self.assert_streams_are_whole(variant, length, every[:: 1 + length // 90], every)

    @parameterized.parameters(*FEW, *OTHERS)
    @pytest.mark.few(*range(len(FEW)))
    def test_streams_of_a_batch_are_on_their_own(self, variant):
        """Pieces in any order; streams end and begin while others are in the middle."""
        codec = self.codecs[variant]
        rng = np.random.default_rng(1)
        encoder = codec.stream_encoder(batch=BATCH, block_frames=10)
        decoder = codec.stream_decoder(batch=BATCH, block_frames=10)
        signals = [draw(codec, int(rng.integers(1, 500)), seed) for seed in range(8)]
        waiting = list(range(len(signals)))
        at = [[waiting.pop(0), 0] for _ in range(BATCH)]
        sounds = [[] for _ in signals]
        while any(place is not None for place in at):
            pieces = [None] * BATCH
            for index, place in enumerate(at):
                if place is not None and rng.random() < 0.8:
                    signal, start = place
                    size = int(rng.integers(0, 150))
                    pieces[index] = signals[signal][start : start + size]
                    place[1] += size
            audio = decoder.push(encoder.push(pieces))
            ends = [
                index
                for index, place in enumerate(at)
                if place is not None and place[1] >= len(signals[place[0]])
            ]
            more = decoder.push(encoder.finish(ends))
            lengths = [len(signals[at[i][0]]) if i in ends else None for i in range(BATCH)]
            last = decoder.finish(lengths, ends)
            for index, place in enumerate(at):
                for samples in (audio[index], more[index], last[index]):
                    if place is None:
                        self.assertEmpty(samples)
                    else:
                        sounds[place[0]].append(samples)
                if index in ends:
                    at[index] = [waiting.pop(0), 0] if waiting else None
        for signal, parts in zip(signals, sounds, strict=True):
            expected = codec.decode(codec.encode([signal]))[0]
            np.testing.assert_allclose(np.concatenate(parts), expected, atol=2e-6)

    @parameterized.parameters("causal", "segmented")
    def test_number_of_codebooks_of_the_first_codes(self, variant):
        """A decoder that was not told decodes as many codebooks as the first codes have."""
        codec = self.codecs[variant]
        audio = draw(codec, 250)
        encoded = codec.encode([audio], num_codebooks=2)
        decoder = codec.stream_decoder()
        self.assertIsNone(decoder.num_codebooks)
        with self.assertRaisesRegex(ValueError, "got neither bandwidth nor num_codebooks"):
            decoder.warm_up()
        scales = None if encoded.scales is None else encoded.scales[0]
        parts = [decoder.push(encoded.codes[0, :, :9], scales)]
        self.assertEqual(decoder.num_codebooks, 2)
        with self.assertRaisesRegex(ValueError, r"must be integers \[2, F\]"):
            decoder.push(np.zeros((3, 1), int))
        parts += [decoder.push(encoded.codes[0, :, 9:]), decoder.finish(250)]
        np.testing.assert_allclose(np.concatenate(parts), codec.decode(encoded)[0], atol=2e-6)
        with self.assertRaisesRegex(ValueError, r"must be integers \[K, F\], K from 1 to 3"):
            codec.stream_decoder().push(np.zeros((4, 1), int))

    def test_latency(self):
        """Seven frames at the start, then one; the decoder holds a frame back, or none."""
        codec = self.codecs["causal"]
        first = max(reach.minimum_first_blocks(codec.model_config))
        hop, audio = codec.hop_length, draw(codec, 300)
        encoder = codec.stream_encoder()
        self.assertEqual(encoder.push(audio[: first * hop - 1]).shape, (3, 0))
        codes = encoder.push(audio[first * hop - 1 : first * hop])
        self.assertEqual(codes.shape, (3, first))
        self.assertEqual(encoder.push(audio[first * hop :][:hop]).shape, (3, 1))
        for hold_back, held in ((True, hop - 1), (False, 0)):
            decoder = codec.stream_decoder(hold_back=hold_back)
            self.assertEmpty(decoder.push(codes[:, : first - 1]))
            self.assertLen(decoder.push(codes[:, first - 1 :]), first * hop - held)
            self.assertLen(decoder.push(codes[:, :1]), hop)
            self.assertLen(decoder.finish(), held)

    def test_an_end_that_has_passed(self):
        codec = self.codecs["causal"]
        decoder = codec.stream_decoder(hold_back=False)
        decoder.push(np.zeros((3, 10), int))
        with self.assertRaisesRegex(ValueError, "got 119, but 120 came out already"):
            decoder.finish(119)
        self.assertEmpty(decoder.finish(120))

    @parameterized.parameters(*VARIANTS)
    def test_nothing(self, variant):
        codec = self.codecs[variant]
        encoder, decoder = self.encoders[variant], self.decoders[variant]
        nothing = np.zeros((0, codec.channels), np.float32)
        for _ in range(2):
            for codes in (encoder.push(nothing), encoder.finish()):
                if codec.model_config.normalize:
                    codes, scales = codes
                    self.assertEqual(scales.shape, (0,))
                self.assertEqual(codes.shape, (3, 0))
            samples = decoder.push(np.zeros((3, 0), np.int32))
            self.assertEqual(samples.shape, nothing.shape)
            self.assertEqual(decoder.finish().shape, nothing.shape)
            self.assertEqual(decoder.finish(0).shape, nothing.shape)

    @parameterized.parameters(*FEW)
    def test_bare_codes_without_a_length(self, variant):
        codec = self.codecs[variant]
        codes = codec.encode([draw(codec, 250)]).codes
        expected = codec.decode(codec.encoded(codes))[0]
        decoder = self.decoders[variant]
        parts = [decoder.push(codes[0]), decoder.finish()]
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=2e-6)

    def test_one_size_of_block(self):
        codec = self.codecs["causal"]
        audio = draw(codec, 500)
        with codec.stream_encoder(num_codebooks=2, block_frames=10) as encoder:
            codes = [encoder.push(piece) for piece in cut(audio, [3, 250, 251])]
            codes.append(encoder.finish())
        self.assertEqual([part.shape[1] for part in codes], [0, 20, 0, 20, 2])
        joined = np.concatenate(codes, axis=1)
        np.testing.assert_array_equal(joined, codec.encode([audio], num_codebooks=2).codes[0])

    def test_warm_up_compiles_all(self):
        codec = make("causal", num_filters=6)  # of its own: nothing is compiled yet
        encoder, decoder = codec.stream_encoder(), codec.stream_decoder(num_codebooks=3)
        with compilation.counted() as compiled:
            encoder.warm_up()
            decoder.warm_up()
            self.assertGreaterEqual(len(compiled), 6)  # blocks of 1, 8 and 10 frames
            compiled.clear()
            for piece in cut(draw(codec, 700), [1, 100, 112, 130, 500]):
                decoder.push(encoder.push(piece))
            decoder.push(encoder.finish())
            decoder.finish()
            self.assertEmpty(compiled)


class BadCallsTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.codec, cls.segmented = make("causal"), make("segmented")

    @parameterized.parameters(
        (np.zeros(5, np.float32), r"^samples: got shape \(5,\), must be \[T, 1\]"),
        (np.zeros((5, 2), np.float32), r"got shape \(5, 2\), must be \[T, 1\]"),
        (np.zeros((5, 1), np.int16), "got int16, must be float"),
        (np.full((5, 1), np.nan), "^samples: got NaN or infinity at sample 0, must be finite$"),
        ("sound", r"got shape \(\)"),
    )
    def test_samples(self, samples, message):
        encoder = self.codec.stream_encoder()
        with self.assertRaisesRegex(ValueError, message):
            encoder.push(samples)
        self.assertEqual(encoder.finish().shape, (3, 0))  # nothing was taken

    @parameterized.parameters(
        (np.zeros((2, 5), int), r"got int64 of shape \(2, 5\), must be integers \[3, F\]"),
        (np.zeros((3, 5)), "got float64"),
        (np.zeros((1, 3, 5), int), r"of shape \(1, 3, 5\)"),
        (np.full((3, 5), 16), "got 16, must be 0 to 15"),
        (np.full((3, 5), -1), "got -1, must be 0 to 15"),
    )
    def test_codes(self, codes, message):
        decoder = self.codec.stream_decoder(num_codebooks=3)
        with self.assertRaisesRegex(ValueError, message):
            decoder.push(codes)
        self.assertEmpty(decoder.finish(0))

    def test_scales(self):
        codes = np.zeros((3, 5), int)
        with self.assertRaisesRegex(ValueError, "of a model that does not normalise"):
            self.codec.stream_decoder().push(codes, [1.0])
        decoder = self.segmented.stream_decoder()
        for scales in ([0.0], [-1.0], [np.inf], ["loud"]):
            with self.assertRaisesRegex(ValueError, "scales: got .* finite and above 0"):
                decoder.push(codes, scales)
        with self.assertRaisesRegex(ValueError, r"^scales: got shape"):
            decoder.push(codes, 1.0)

    def test_lengths(self):
        decoder = self.codec.stream_decoder()
        decoder.push(np.zeros((3, 10), int))
        for length, frames in ((108, 9), (121, 11), (0, 0)):
            with self.assertRaisesRegex(ValueError, f"got {length}, which have {frames} frames"):
                decoder.finish(length)
        self.assertLen(decoder.finish(109), 109 - (120 - 11) + 0)

    def test_batches(self):
        for batch in (0, -1, 1.5, True):
            with self.assertRaisesRegex(ValueError, "batch: got"):
                self.codec.stream_encoder(batch=batch)
        encoder = self.codec.stream_encoder(batch=2)
        for pieces in (None, [None], np.zeros((2, 5, 1), np.float32)):
            with self.assertRaisesRegex(ValueError, "must be a list of 2"):
                encoder.push(pieces)
        with self.assertRaisesRegex(ValueError, r"streams: got \[2\], must be numbers below 2"):
            encoder.finish([2])
        with self.assertRaisesRegex(ValueError, "must be None without a batch"):
            self.codec.stream_encoder().finish([0])

    def test_blocks_and_rates(self):
        for frames in (0, 6, 2.5):
            with self.assertRaisesRegex(ValueError, "block_frames: got"):
                self.codec.stream_encoder(block_frames=frames)
        with self.assertRaisesRegex(ValueError, "num_codebooks: got 4"):
            self.codec.stream_decoder(num_codebooks=4)
        with self.assertRaisesRegex(ValueError, "both"):
            self.codec.stream_encoder(bandwidth=0.4, num_codebooks=1)

    def test_closed(self):
        with self.codec.stream_encoder() as encoder, self.codec.stream_decoder() as decoder:
            pass
        for call in (
            lambda: encoder.push(np.zeros((1, 1), np.float32)),
            lambda: encoder.finish(),
            lambda: decoder.push(np.zeros((3, 1), int)),
            lambda: decoder.finish(),
        ):
            with self.assertRaisesRegex(ValueError, "the stream is closed"):
                call()

    def test_whole_items_alone(self):
        codec_config = random_networks.small(causal=False, norm="time_group_norm")
        codec = encodec_hk.Codec(codec_config, random_networks.random_params(codec_config))
        with self.assertRaisesRegex(ValueError, "takes whole items only"):
            codec.stream_encoder()
