"""`run.py describe`: what it prints."""

import importlib
import io
import math

import ml_collections
from absl.testing import absltest
from absl.testing import parameterized

from encodec_hk import config
from encodec_hk.commands import describe


def get_config(name: str) -> ml_collections.ConfigDict:
    return importlib.import_module(f"configs.{name}").get_config()


def text(variant: ml_collections.ConfigDict) -> str:
    out = io.StringIO()
    describe.run(variant, out)
    return out.getvalue()


class OutputTest(parameterized.TestCase):
    def test_24khz(self):
        printed = text(get_config("encodec_24khz"))
        for line in (
            r"^encodec_24khz: 24000 Hz, mono, causal$",
            r"^encoder +\[75, 128\] +7,419,376 +1,489,766,400$",
            r"^  conv_in +\[24000, 32\] +256 +5,376,000  w \[7, 1, 32\], b \[32\]$",
            r"^    downsample +\[12000, 64\] +8,256 +98,304,000  w \[4, 32, 64\], b \[64\]$",
            r"^quantizer\.encode +\[32, 75\] +4,194,304 +314,572,800  codebooks \[32, 1024, 128\]$",
            r"^    upsample +\[600, 256\] +2,097,408 .* w \[2, 512, 2048\], b \[256\]$",
            r"^decoder +\[24000, 1\] +7,419,249 ",
            r"^parameters +14,838,625 .* and 4,194,304 in 32 codebooks$",
            r"^ += 14,851,810 in PyTorch, codebooks aside$",
            r"^hop +320 samples \(13\.33 ms\)$",
            r"^frame rate +75 frames per second$",
            r"^receptive field +encoder 2718 samples \(113\.2 ms\), decoder 9 frames \(120 ms\)$",
            r"^ +of the convolutions; the LSTM's memory is unlimited$",
            r"^look-ahead +7 frames \(2240 samples, 93\.33 ms\) for an exact start, ",
            r"^multiply-adds +3,294\.1 M per second of audio ",
            r"^    5    3\.75      6     4\.5      7    5\.25      8       6 \*$",
        ):
            self.assertRegex(printed, rf"(?m){line}")

    def test_48khz(self):
        printed = text(get_config("encodec_48khz"))
        for line in (
            r"^encodec_48khz: 48000 Hz, stereo, not causal$",
            r"^    norm +\[48000, 32\] +64 +0  offset \[32\], scale \[32\]$",
            r"^ +of the convolutions; .* unlimited, and time_group_norm sees the whole input$",
            r"^ += 14,856,294 in PyTorch, codebooks aside$",
            r"^look-ahead +not causal: it codes segments of 48000 samples, one every 47520: 1\.01 ",
        ):
            self.assertRegex(printed, rf"(?m){line}")

    def test_vocos(self):
        printed = text(get_config("vocos_encodec_24khz"))
        for line in (
            r"^decoder +\[24000, 1\] +7,984,258 +595,180,800$",
            r"^    depthwise +\[75, 384\] +3,072 +201,600  w \[7, 384\], b \[384\]$",
            r"^  head +\[24000, 1\] +494,338 +36,921,600  offset \[384\], scale \[384\]$",
            r"^ +\+ 2,320 magnitudes of weight_norm",
            r"^receptive field +encoder 2718 .*, decoder 58 frames \(773\.3 ms\)$",
            r"^ +a stream of the decoder lags by 9120 samples \(380 ms\)$",
        ):
            self.assertRegex(printed, rf"(?m){line}")

    def test_spectra(self):
        variant = get_config("vocos_encodec_24khz")
        variant.model.encoder = "fourier"
        variant.model.vocos.update(causal=True, head="complex")
        printed = text(variant)
        for line in (
            r"^encoder +\[75, 128\] +2,662,272 +198,643,200$",
            r"^    linear +\[75, 256\] +246,016 +18,432,000  w \[960, 256\], b \[256\]$",
            r"^encoder: of spectra; decoder: of spectra; its norms have a row for each",
            r"^receptive field +encoder 12800 samples \(533\.3 ms\), decoder 58 frames",
            r"^look-ahead +none: a stream gives one frame at a time, from the first on$",
            r"^ +a stream of the decoder lags by 480 samples \(20 ms\)$",
        ):
            self.assertRegex(printed, rf"(?m){line}")
        self.assertNotIn("LSTM", printed)
        self.assertNotIn("PyTorch", printed)

    @parameterized.parameters(
        {"ratios": (4, 3), "bandwidths": (20.0,), "num_lstm_layers": 0, "channels": 4},
        {"norm": "none", "num_residual_layers": 3, "shortcut": "identity"},
        {"causal": False, "num_residual_layers": 0},
        {"sample_rate": 24001, "bandwidths": (0.76,)},
    )
    def test_any_network(self, **fields):
        variant = get_config("encodec_tiny")
        variant.model.update(fields)
        variant.inference.bandwidth = variant.model.bandwidths[0]
        printed = text(variant)
        rate = config.frame_rate(variant.model)
        self.assertRegex(printed, rf"(?m)^quantizer\.encode +\[8, {rate}\]")
        hop = math.prod(variant.model.ratios)
        self.assertRegex(printed, rf"(?m)^decoder +\[{rate * hop}, {variant.model.channels}\]")

    def test_invalid_config(self):
        variant = get_config("encodec_tiny")
        variant.model.ratios = (8, 0)
        with self.assertRaisesRegex(ValueError, r"config\.model\.ratios: got \(8, 0\)"):
            describe.run(variant)


if __name__ == "__main__":
    absltest.main()
