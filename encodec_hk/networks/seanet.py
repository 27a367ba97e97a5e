"""The encoder and decoder networks (SEANet, Section 3.1 and Figure 1 of arXiv 2210.13438).

Shapes: B rows, T samples of a block, C audio channels, F = T / hop frames, D latent channels.
The state of a network is a dictionary of its layers' states, None where every row starts here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import chex
import haiku as hk
import jax

from encodec_hk.networks import activation
from encodec_hk.networks import block_rows
from encodec_hk.networks import convolution
from encodec_hk.networks import lstm

State = dict[str, Any]
Layer: TypeAlias = "convolution.Conv | lstm.LSTM | Stage"

_BRANCH_GAIN = 0.2  # of a residual branch at first: nearly all goes through the shortcut


class Residual(hk.Module):
    """ELU, convolution to fewer channels, ELU, convolution back, plus the shortcut.

    Attributes:
      kernel_size, dilation: of the first convolution; the second has kernel 1.
      compress: how many times fewer channels lie between the two.
      shortcut: "conv" (kernel 1) or "identity", of the input before its activation.
      causal, norm, pad_mode: as in `convolution.Conv`.
    """

    def __init__(
        self,
        *,
        kernel_size: int,
        dilation: int,
        compress: int,
        shortcut: str,
        causal: bool,
        norm: str,
        pad_mode: str,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.compress = compress
        self.shortcut = shortcut
        self.padding: dict[str, Any] = {"causal": causal, "norm": norm, "pad_mode": pad_mode}

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: State | None
    ) -> tuple[jax.Array, block_rows.Rows, State]:
        """Maps x [B, T, C] -> [B, T, C], where the rows lie in it, and the next state."""
        channels = x.shape[-1]
        layers = _Layers(state)
        conv_0 = convolution.Conv(
            channels=channels // self.compress,
            kernel_size=self.kernel_size,
            dilation=self.dilation,
            name="conv_0",
            **self.padding,
        )
        conv_1 = convolution.Conv(
            channels=channels, kernel_size=1, gain=_BRANCH_GAIN, name="conv_1", **self.padding
        )
        y, after = layers(conv_0, activation.elu(x), rows)
        y, after = layers(conv_1, activation.elu(y), after)
        if self.shortcut == "conv":
            shortcut = convolution.Conv(
                channels=channels, kernel_size=1, name="shortcut", **self.padding
            )
            x, _ = layers(shortcut, x, rows)
        if after.lag > rows.lag:
            x = layers.delay(x, rows, after.lag - rows.lag)
        return x + y, after, layers.state


class Stage(hk.Module):
    """The residual layers of one resolution, and the change to the next resolution.

    Attributes:
      stride: ratio between the two resolutions.
      upsample: the decoder's order, ELU, transposed convolution to half the channels, residual
        layers; otherwise the encoder's: residual layers, ELU, strided convolution to twice the
        channels.
      num_residual_layers: residual layers; the j-th has dilation dilation_base ** j.
      kernel_size, dilation_base, compress, shortcut, causal, norm, pad_mode: as in `Residual`.
    """

    def __init__(
        self,
        *,
        stride: int,
        upsample: bool,
        num_residual_layers: int,
        kernel_size: int,
        dilation_base: int,
        compress: int,
        shortcut: str,
        causal: bool,
        norm: str,
        pad_mode: str,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.stride = stride
        self.upsample = upsample
        self.num_residual_layers = num_residual_layers
        self.dilation_base = dilation_base
        self.padding: dict[str, Any] = {"causal": causal, "norm": norm, "pad_mode": pad_mode}
        self.residual: dict[str, Any] = {
            "kernel_size": kernel_size,
            "compress": compress,
            "shortcut": shortcut,
            **self.padding,
        }

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: State | None
    ) -> tuple[jax.Array, block_rows.Rows, State]:
        """Maps x [B, T, C].

        Returns:
          [B, T * stride, C / 2] (upsample) or [B, T / stride, 2 C], where the rows lie in it, and
          the next state.
        """
        channels = x.shape[-1]
        layers = _Layers(state)
        if self.upsample:
            upsample = convolution.ConvTranspose(
                channels=channels // 2,
                stride=self.stride,
                causal=self.padding["causal"],
                norm=self.padding["norm"],
                name="upsample",
            )
            x, rows = layers(upsample, activation.elu(x), rows)
        for index in range(self.num_residual_layers):
            residual = Residual(
                dilation=self.dilation_base**index, name=f"residual_{index}", **self.residual
            )
            x, rows = layers(residual, x, rows)
        if not self.upsample:
            downsample = convolution.Conv(
                channels=2 * channels,
                kernel_size=2 * self.stride,
                stride=self.stride,
                name="downsample",
                **self.padding,
            )
            x, rows = layers(downsample, activation.elu(x), rows)
        return x, rows, layers.state


class Encoder(hk.Module):
    """Audio to latents, one for every hop = prod(ratios) samples.

    Attributes:
      ratios: of the decoder, coarse to fine as the paper's configurations state them.
      num_filters: channels at the sample rate; every stage doubles them.
      latent_dim: D.
      kernel_size, last_kernel_size: of the convolutions at the audio's side and at the latents'.
      num_lstm_layers: 0 for none.
      stage: the settings common to all stages, as keywords of `Stage`.
    """

    def __init__(
        self,
        *,
        ratios: Sequence[int],
        num_filters: int,
        latent_dim: int,
        kernel_size: int,
        last_kernel_size: int,
        num_lstm_layers: int,
        stage: dict[str, Any],
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.strides = tuple(reversed(ratios))
        self.num_filters = num_filters
        self.latent_dim = latent_dim
        self.kernel_size = kernel_size
        self.last_kernel_size = last_kernel_size
        self.num_lstm_layers = num_lstm_layers
        self.stage = stage
        self.padding = {key: stage[key] for key in ("causal", "norm", "pad_mode")}

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers, from the audio to the latents."""
        return layer_names("encoder", len(self.strides), self.num_lstm_layers)

    def __call__(
        self, audio: jax.Array, rows: block_rows.Rows, state: State | None = None
    ) -> tuple[jax.Array, block_rows.Rows, State]:
        """Maps audio [B, T, C] -> latents [B, F, D], where the rows lie, and the next state."""
        chex.assert_rank(audio, 3)
        return _in_order(self, audio, rows, state)

    @hk.name_like("__call__")
    def layer(self, name: str) -> Layer:
        """The layer of this name, of `layer_names`."""
        if name == "conv_in":
            return convolution.Conv(
                channels=self.num_filters, kernel_size=self.kernel_size, name=name, **self.padding
            )
        if name == "lstm":
            return lstm.LSTM(num_layers=self.num_lstm_layers, name=name)
        if name == "conv_out":
            return convolution.Conv(
                channels=self.latent_dim,
                kernel_size=self.last_kernel_size,
                name=name,
                **self.padding,
            )
        stride = self.strides[int(name.removeprefix("stage_"))]
        return Stage(stride=stride, upsample=False, name=name, **self.stage)


class Decoder(hk.Module):
    """Latents to audio, hop = prod(ratios) samples for each. The encoder's mirror image.

    Attributes:
      channels: C.
      ratios, num_filters, kernel_size, last_kernel_size, num_lstm_layers, stage: as in `Encoder`;
        here kernel_size is at the latents' side and last_kernel_size at the audio's.
    """

    def __init__(
        self,
        *,
        channels: int,
        ratios: Sequence[int],
        num_filters: int,
        kernel_size: int,
        last_kernel_size: int,
        num_lstm_layers: int,
        stage: dict[str, Any],
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.channels = channels
        self.strides = tuple(ratios)
        self.num_filters = num_filters
        self.kernel_size = kernel_size
        self.last_kernel_size = last_kernel_size
        self.num_lstm_layers = num_lstm_layers
        self.stage = stage
        self.padding = {key: stage[key] for key in ("causal", "norm", "pad_mode")}

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers, from the latents to the audio."""
        return layer_names("decoder", len(self.strides), self.num_lstm_layers)

    def __call__(
        self, latents: jax.Array, rows: block_rows.Rows, state: State | None = None
    ) -> tuple[jax.Array, block_rows.Rows, State]:
        """Maps latents [B, F, D] -> audio [B, F * hop, C], where the rows lie, and the state."""
        chex.assert_rank(latents, 3)
        return _in_order(self, latents, rows, state)

    @hk.name_like("__call__")
    def layer(self, name: str) -> Layer:
        """The layer of this name, of `layer_names`."""
        if name == "conv_in":
            return convolution.Conv(
                channels=self.num_filters * 2 ** len(self.strides),
                kernel_size=self.kernel_size,
                name=name,
                **self.padding,
            )
        if name == "lstm":
            return lstm.LSTM(num_layers=self.num_lstm_layers, name=name)
        if name == "conv_out":
            return convolution.Conv(
                channels=self.channels,
                kernel_size=self.last_kernel_size,
                name=name,
                **self.padding,
            )
        stride = self.strides[int(name.removeprefix("stage_"))]
        return Stage(stride=stride, upsample=True, name=name, **self.stage)


def layer_names(network: str, num_stages: int, num_lstm_layers: int) -> tuple[str, ...]:
    """The names of the layers of "encoder" or "decoder", in their order."""
    stages = tuple(f"stage_{index}" for index in range(num_stages))
    memory = ("lstm",) if num_lstm_layers else ()
    between = stages + memory if network == "encoder" else memory + stages
    return ("conv_in", *between, "conv_out")


def _in_order(
    network: Encoder | Decoder, x: jax.Array, rows: block_rows.Rows, state: State | None
) -> tuple[jax.Array, block_rows.Rows, State]:
    """Calls the layers of a network one after the other."""
    layers = _Layers(state)
    for name in network.layer_names:
        if name == "conv_out":
            x = activation.elu(x)
        x, rows = layers(network.layer(name), x, rows)
    return x, rows, layers.state


class _Layers:
    """Calls layers with their own part of the state, and gathers what they hand back.

    Attributes:
      state: the states after the block, by the layers' names.
    """

    def __init__(self, state: State | None):
        self._before = state
        self.state: State = {}

    def __call__(
        self, layer: Any, x: jax.Array, rows: block_rows.Rows
    ) -> tuple[jax.Array, block_rows.Rows]:
        x, rows, self.state[layer.name] = layer(x, rows, self._of(layer.name))
        return x, rows

    def delay(self, x: jax.Array, rows: block_rows.Rows, steps: int) -> jax.Array:
        """Delays x by `steps`."""
        x, self.state["delay"] = block_rows.delay(x, rows, self._of("delay"), steps)
        return x

    def _of(self, name: str) -> Any:
        return None if self._before is None else self._before[name]
