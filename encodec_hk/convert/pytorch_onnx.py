"""The network of transformers as ONNX files, written by PyTorch's own exporter, to compare with."""

from __future__ import annotations

import pathlib
import warnings
from typing import Any

import encodec_hk
from encodec_hk.convert import verify
from encodec_hk.system import extras

_OPSET = 17
_TRACED = 1.0  # seconds of audio; the files take any length


def write(codec: encodec_hk.Codec, bandwidth: float, folder: pathlib.Path) -> None:
    """Write encoder.onnx, audio [B, C, T] -> codes [B, K, F], and decoder.onnx, which undoes it.

    Args:
      codec: a codec without segments.
      bandwidth: kbps of the encoder.
      folder: for the files.

    Raises:
      ValueError: a package is not installed, or transformers has no such network.
    """
    torch: Any = extras.require("torch")
    extras.require("onnx", "onnx")
    network = verify.exported(codec)

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, audio: Any) -> Any:
            latents = self.network.encoder(audio)
            return self.network.quantizer.encode(latents, bandwidth).transpose(0, 1)

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, codes: Any) -> Any:
            return self.network.decoder(self.network.quantizer.decode(codes.transpose(0, 1)))

    encoder, decoder = Encoder().eval(), Decoder().eval()
    audio = torch.zeros(2, codec.channels, int(_TRACED * codec.sample_rate))
    with torch.inference_mode():
        codes = encoder(audio)
    for name, module, given, inputs, outputs in (
        ("encoder", encoder, audio, "audio", "codes"),
        ("decoder", decoder, codes, "codes", "audio"),
    ):
        axes = {0: "batch", 2: "steps"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a trace takes for constant, and of its age
            torch.onnx.export(
                module,
                (given,),
                str(folder / f"{name}.onnx"),
                input_names=[inputs],
                output_names=[outputs],
                dynamic_axes={inputs: axes, outputs: axes},
                opset_version=_OPSET,
                dynamo=False,  # needs no more packages, and keeps the LSTM as one operator
            )
