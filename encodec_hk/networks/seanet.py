"""The encoder and decoder networks (SEANet, Section 3.1 and Figure 2 of arXiv 2210.13438).

Every layer maps (x, rows, state) to (y, rows, next state): x and y [B, T, C], where the rows lie in
them, and what the layer keeps from block to block. The state of a network is a dictionary of its
layers' states; None means that every row starts in this block.

Shapes: B rows, T samples of a block, C audio channels, F = T / hop frames, D latent channels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import chex
import haiku as hk
import jax

from encodec_hk.networks import block_rows
from encodec_hk.networks import convolution
from encodec_hk.networks import lstm

State = dict[str, Any]
Layer: TypeAlias = "convolution.Conv | convolution.ConvTranspose | Residual | Stage | lstm.LSTM"

_BRANCH_GAIN = 0.2  # of a fresh residual branch: nearly all goes through the shortcut


class Residual(hk.Module):
    """Two convolutions, the first to fewer channels, plus the shortcut.

    Attributes:
      kernel_size, dilation: of the first convolution; the second has kernel 1.
      compress: the first convolution divides the number of channels by this.
      shortcut: "conv" (kernel 1) or "identity".
      conv: settings of the convolutions.
    """

    def __init__(
        self,
        *,
        kernel_size: int,
        dilation: int,
        compress: int,
        shortcut: str,
        conv: convolution.ConvSettings,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.compress = compress
        self.shortcut = shortcut
        self.conv = conv

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: State | None
    ) -> tuple[jax.Array, block_rows.Rows, State]:
        """Map x [B, T, C] -> [B, T, C], where the rows lie in it, and the next state."""
        channels = x.shape[-1]
        branch = [
            convolution.Conv(
                channels=channels // self.compress,
                kernel_size=self.kernel_size,
                dilation=self.dilation,
                settings=self.conv,
                name="conv_0",
            ),
            convolution.Conv(
                channels=channels,
                kernel_size=1,
                gain=_BRANCH_GAIN,
                settings=self.conv,
                name="conv_1",
            ),
        ]
        y, rows_after, next_state = block_rows.in_order(branch, x, rows, state)
        if self.shortcut == "conv":
            shortcut = convolution.Conv(
                channels=channels,
                kernel_size=1,
                activate=False,
                settings=self.conv,
                name="shortcut",
            )
            x, _, more = block_rows.in_order([shortcut], x, rows, state)
            next_state |= more
        if lag := rows_after.lag - rows.lag:
            waiting = None if state is None else state["delay"]
            x, next_state["delay"] = block_rows.delay(x, rows, waiting, lag)
        return x + y, rows_after, next_state


class Stage(hk.Module):
    """The residual layers of one resolution, and the change to the next resolution.

    Attributes:
      stride: ratio of the two resolutions.
      upsample: the decoder's order: a transposed convolution to half the channels, then the
        residual layers. Otherwise the encoder's: the residual layers, then a strided convolution to
        twice the channels.
      num_residual_layers: residual layers; the j-th has dilation dilation_base ** j.
      kernel_size, dilation_base, compress, shortcut, conv: as in `Residual`.
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
        conv: convolution.ConvSettings,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.stride = stride
        self.upsample = upsample
        self.dilations = [dilation_base**layer for layer in range(num_residual_layers)]
        self.residual = functools.partial(
            Residual, kernel_size=kernel_size, compress=compress, shortcut=shortcut, conv=conv
        )
        self.conv = conv

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: State | None
    ) -> tuple[jax.Array, block_rows.Rows, State]:
        """Map x [B, T, C].

        Returns:
          [B, T * stride, C / 2] (upsample) or [B, T / stride, 2 C], where the rows lie in it, and
          the next state.
        """
        layers: list[Layer] = [
            self.residual(dilation=dilation, name=f"residual_{index}")
            for index, dilation in enumerate(self.dilations)
        ]
        channels = x.shape[-1]
        if self.upsample:
            upsample = convolution.ConvTranspose(
                channels=channels // 2, stride=self.stride, settings=self.conv, name="upsample"
            )
            layers.insert(0, upsample)
        else:
            downsample = convolution.Conv(
                channels=2 * channels,
                kernel_size=2 * self.stride,
                stride=self.stride,
                settings=self.conv,
                name="downsample",
            )
            layers.append(downsample)
        return block_rows.in_order(layers, x, rows, state)


class _SEANet(hk.Module):
    """What encoder and decoder share.

    Attributes:
      ratios: of the decoder, coarse to fine, as the paper states them.
      num_filters: channels at the sample rate; every stage of the encoder doubles them.
      kernel_size, last_kernel_size: of the network's first and last convolution.
      has_lstm: whether there is an LSTM.
      conv, stage, lstm: make a layer, given what is particular to it.
    """

    def __init__(
        self,
        *,
        ratios: Sequence[int],
        num_filters: int,
        kernel_size: int,
        last_kernel_size: int,
        num_residual_layers: int,
        residual_kernel_size: int,
        dilation_base: int,
        compress: int,
        shortcut: str,
        num_lstm_layers: int,
        conv: convolution.ConvSettings,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.ratios = tuple(ratios)
        self.num_filters = num_filters
        self.kernel_size = kernel_size
        self.last_kernel_size = last_kernel_size
        self.has_lstm = num_lstm_layers > 0
        self.conv = functools.partial(convolution.Conv, settings=conv)
        self.lstm = functools.partial(lstm.LSTM, num_layers=num_lstm_layers)
        self.stage = functools.partial(
            Stage,
            num_residual_layers=num_residual_layers,
            kernel_size=residual_kernel_size,
            dilation_base=dilation_base,
            compress=compress,
            shortcut=shortcut,
            conv=conv,
        )

    def layers(self) -> list[Layer]:
        """Return the layers in order."""
        raise NotImplementedError

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: State | None = None
    ) -> tuple[jax.Array, block_rows.Rows, State]:
        """Map audio [B, T, C] -> latents [B, F, D] or back, where the rows lie, and the state."""
        chex.assert_rank(x, 3)
        return block_rows.in_order(self.layers(), x, rows, state)


class Encoder(_SEANet):
    """Audio to latents, one for every hop = prod(ratios) samples.

    Attributes: those of `_SEANet`, and
      latent_dim: D.
    """

    def __init__(self, *, latent_dim: int, **shared: Any):
        super().__init__(**shared)
        self.latent_dim = latent_dim

    @hk.name_like("__call__")
    def layers(self) -> list[Layer]:
        """Return the layers, from the audio to the latents."""
        conv_in = self.conv(
            channels=self.num_filters, kernel_size=self.kernel_size, activate=False, name="conv_in"
        )
        stages = [
            self.stage(stride=stride, upsample=False, name=f"stage_{index}")
            for index, stride in enumerate(reversed(self.ratios))
        ]
        memory = [self.lstm(name="lstm")] if self.has_lstm else []
        conv_out = self.conv(
            channels=self.latent_dim, kernel_size=self.last_kernel_size, name="conv_out"
        )
        return [conv_in, *stages, *memory, conv_out]


class Decoder(_SEANet):
    """Latents to audio, hop = prod(ratios) samples for each: the encoder's mirror image.

    Attributes: those of `_SEANet`, and
      channels: C.
    """

    def __init__(self, *, channels: int, **shared: Any):
        super().__init__(**shared)
        self.channels = channels

    @hk.name_like("__call__")
    def layers(self) -> list[Layer]:
        """Return the layers, from the latents to the audio."""
        conv_in = self.conv(
            channels=self.num_filters * 2 ** len(self.ratios),
            kernel_size=self.kernel_size,
            activate=False,
            name="conv_in",
        )
        memory = [self.lstm(name="lstm")] if self.has_lstm else []
        stages = [
            self.stage(stride=stride, upsample=True, name=f"stage_{index}")
            for index, stride in enumerate(self.ratios)
        ]
        conv_out = self.conv(
            channels=self.channels, kernel_size=self.last_kernel_size, name="conv_out"
        )
        return [conv_in, *memory, *stages, conv_out]
