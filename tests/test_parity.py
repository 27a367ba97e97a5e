"""Full-size networks against Meta's `encodec` and `transformers`: codes, margins, audio.

Our codec takes the items of a case as one ragged batch, the reference takes them one by one. Every
differing code must be a near-tie of the reference's own latents.
"""

import chex
import numpy as np
import pytest
import torch
import transformers
from absl.testing import parameterized

from encodec_hk.blocks import segments
from tests import near_ties
from tests import references

pytestmark = pytest.mark.compiles_normally

# Lengths in samples. An exact start at 24 kHz needs 2240; 53760 is 168 hops.
SHORT = (1, 31, 319, 320, 321, 700, 2239, 2240, 2241)
LENGTHS = {
    "encodec_24khz": (*SHORT, 53760, 100_000, 240_000),
    "encodec_48khz": (*SHORT, 47519, 47520, 47521, 47680, 48000, 100_000),
    "encodec_32khz": (*SHORT, 639, 641, 53760),
    "encodec_16khz": (*SHORT, 53760),
}
# Lengths at which Meta's decoder fails: the last segment ends before the one before it.
CRASHING = (47520 + 161, 47520 + 320, 2 * 47520 + 200)

# In a near-tie the squared distances differ by less than this share of the residual's energy.
# Latents agree to 4e-6 of their size, and float32 resolves distances to 1e-7 of the energy.
MARGIN = 2e-5
EQUAL_CODES = 0.9995
FULL_SCALE_ERROR = 1e-4


def draw(variant, lengths):
    """Return items of given lengths, cut from a signal at different places."""
    model_config = references.model_config(variant)
    rate, channels = model_config.sample_rate, model_config.channels
    longest = references.audio(max(lengths) / rate + 1, rate, channels, seed=3)
    return [longest[31 * index :][:length] for index, length in enumerate(lengths)]


def to_torch(item):
    return torch.from_numpy(np.ascontiguousarray(item.T))[None]


class Reference:
    """Codes, scales and audio of one item from a reference network."""

    def __init__(self, network, item, bandwidth):
        x = to_torch(item)
        with torch.inference_mode():
            if isinstance(network, transformers.EncodecModel):
                output = network.encode(x, bandwidth=bandwidth)
                self.frames = list(zip(output.audio_codes, output.audio_scales, strict=True))
                codes, scale = self.frames[-1]
                end = codes.shape[-1] - output.last_frame_pad_length
                self.frames[-1] = (codes[..., :end], scale)
            else:
                network.set_target_bandwidth(bandwidth)
                self.frames = network.encode(x)
        self.network = network
        self.codes = torch.cat([codes[0] for codes, _ in self.frames], dim=1).numpy()
        self.scales = None
        if self.frames[0][1] is not None:
            self.scales = np.array([[float(scale) for _, scale in self.frames]], np.float32)

    def audio(self):
        """Decode and join the segments as the reference does, without its failure."""
        with torch.inference_mode():
            decoded = [
                self.network._decode_frame((codes, scale))
                if not isinstance(self.network, transformers.EncodecModel)
                else self.network._decode_frame(codes, scale)
                for codes, scale in self.frames
            ]
        decoded = [part[0].numpy().T for part in decoded]
        return decoded[0] if len(decoded) == 1 else segments.overlap_add(decoded, 47520)


def flips(network, item, model_config, found, expected):
    """Return the relative margin of the first differing code of each frame that has one."""
    different = found != expected
    if not different.any():
        return []
    length, stride = (48000, 47520) if model_config.segment_seconds else (len(item), len(item))
    latents = []
    for start in range(0, len(item), stride):
        piece = item[start : start + length]
        if model_config.normalize:
            piece, _ = segments.normalize(piece)
        with torch.inference_mode():
            latents.append(network.encoder(to_torch(piece))[0].numpy().T)
    books = [layer._codebook.embed.numpy() for layer in network.quantizer.vq.layers]
    return near_ties.margins(np.concatenate(latents), books, found, expected)


class ParityTest(chex.TestCase):
    def check(self, variant, kind, lengths, bandwidth):
        model_config = references.model_config(variant)
        official = references.official_model(variant)
        network = official if kind == "official" else references.transformers_model(variant)
        codec, items = references.codec(variant), draw(variant, lengths)
        encoded = codec.encode(items, bandwidth=bandwidth)
        total = wrong = 0
        largest = 0.0
        for index, item in enumerate(items):
            reference = Reference(network, item, bandwidth)
            found = encoded.codes[index, :, : encoded.num_frames[index]]
            self.assertEqual(found.shape, reference.codes.shape)
            total, wrong = total + found.size, wrong + np.sum(found != reference.codes)
            for margin in flips(official, item, model_config, found, reference.codes):
                self.assertLess(margin, MARGIN, f"{variant}, {len(item)} samples")

            same = codec.encoded(
                reference.codes[None], num_samples=[len(item)], scales=reference.scales
            )
            audio = codec.decode(same)[0]
            self.assertLen(audio, len(item))
            difference = np.abs(audio - reference.audio()[: len(item)]).max()
            self.assertLess(difference, FULL_SCALE_ERROR, f"{variant}, {len(item)} samples")
            largest = max(largest, difference)
            if reference.scales is not None:
                own = encoded.scales[index, : reference.scales.shape[1]]
                np.testing.assert_allclose(own, reference.scales[0], rtol=1e-6)
        print(
            f"{variant} {kind} {bandwidth} kbps: {wrong} of {total} codes differ, "
            f"audio by {largest:.1e} at most"
        )
        self.assertLessEqual(wrong, (1 - EQUAL_CODES) * total)

    @parameterized.parameters(
        ("encodec_24khz", (1, 321, 2240, 53760)), ("encodec_48khz", (1, 320, 47520, 47521, 48000))
    )
    @pytest.mark.few(0)
    def test_official(self, variant, lengths):
        bandwidths = references.model_config(variant).bandwidths
        self.check(variant, "official", lengths, max(bandwidths))

    def test_the_references_are_worth_comparing_with(self):
        """Their codes vary, and a wrong code is not mistaken for a near-tie."""
        network = references.official_model("encodec_24khz")
        (item,) = draw("encodec_24khz", [53760])
        codes = Reference(network, item, 24.0).codes
        for row in codes:
            self.assertGreater(len(np.unique(row)), 40)
        wrong = codes.copy()
        wrong[5, ::7] = (wrong[5, ::7] + 1) % 1024
        model_config = references.model_config("encodec_24khz")
        margins = flips(network, item, model_config, wrong, codes)
        self.assertLen(margins, len(wrong[5, ::7]))
        self.assertGreater(np.median(margins), 100 * MARGIN)

    def test_transformers(self):
        self.check("encodec_24khz", "transformers", (31, 2240, 53760), 6.0)

    @pytest.mark.slow
    def test_lengths_that_official_cannot_decode(self):
        items = draw("encodec_48khz", CRASHING[:1])
        network = references.official_model("encodec_48khz")
        network.set_target_bandwidth(3.0)
        with torch.inference_mode(), self.assertRaises(RuntimeError):
            network(to_torch(items[0]))
        self.check("encodec_48khz", "official", CRASHING, 3.0)

    @parameterized.named_parameters(
        (f"{variant}_{kind}_{bandwidth}", variant, kind, bandwidth)
        for variant in LENGTHS
        for kind in ("official", "transformers")
        for bandwidth in references.model_config(variant).bandwidths
    )
    @pytest.mark.slow
    def test_every_bandwidth(self, variant, kind, bandwidth):
        lengths = [*LENGTHS[variant], 10 * references.model_config(variant).sample_rate]
        if (variant, kind) == ("encodec_48khz", "transformers"):
            # transformers cannot stack segments if the one before the last is short, too.
            lengths = [length for length in lengths if not 47520 < length <= 47680]
        self.check(variant, kind, lengths, bandwidth)

    @pytest.mark.slow
    def test_every_tail_of_segments(self):
        tails = [47520 + tail for tail in (1, 159, 160, 161, 319, 320, 321, 479, 480, 481, 640)]
        self.check("encodec_48khz", "official", tails, 6.0)


class BatchInvarianceTest(chex.TestCase):
    def test_a_ragged_batch_gives_the_codes_of_items_alone(self):
        self.check("encodec_24khz")

    @pytest.mark.slow
    def test_a_ragged_batch_of_segments(self):
        self.check("encodec_48khz")

    def check(self, variant):
        codec = references.codec(variant)
        items = draw(variant, [700, 30_000, 53_761, 100_001, 64_000])
        together = codec.encode(items, num_codebooks=codec.num_codebooks)
        official = references.official_model(variant)
        total = wrong = 0
        for index, item in enumerate(items):
            alone = codec.encode([item], num_codebooks=codec.num_codebooks).codes[0]
            found = together.codes[index, :, : alone.shape[1]]
            margins = flips(official, item, codec.model_config, found, alone)
            total, wrong = total + alone.size, wrong + len(margins)
            for margin in margins:
                print(f"{variant}: a flip, its margin {margin:.1e}")
                self.assertLess(margin, MARGIN)
        print(f"{variant}: {wrong} flips in {total} codes")
        self.assertLessEqual(wrong, max(1, 1e-5 * total))
