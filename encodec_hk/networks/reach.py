"""How far the networks of a model configuration look: what blocks and streams wait for."""

from __future__ import annotations

import ml_collections

from encodec_hk import config


def receptive_field(model_config: ml_collections.ConfigDict) -> tuple[int, int]:
    """Return the receptive fields of the convolutions of encoder and decoder.

    The LSTM, whose memory is unlimited, and time_group_norm and normalize, whose statistics span
    the segment, are not counted.

    Returns:
      Audio samples that one latent frame depends on, and latent frames that one audio sample
      depends on, at most.
    """
    residual = sum(kernel - 1 for kernel in _residual_kernels(model_config))
    samples, hop = model_config.kernel_size, 1
    frames = model_config.last_kernel_size
    for ratio in reversed(model_config.ratios):
        samples += hop * (residual + 2 * ratio - 1)
        hop *= ratio
        # n consecutive samples lie in up to ceil((n - 1) / ratio) + 1 steps of the layer below;
        # the transposed convolution reads one step more.
        frames = -(-(frames + residual - 1) // ratio) + 2
    samples += hop * (model_config.last_kernel_size - 1)
    frames += model_config.kernel_size - 1
    if config.has_fourier(model_config):
        fourier = model_config.fourier
        samples = fourier.n_fft + hop * fourier.num_layers * (config.CONVNEXT_KERNEL - 1)
    if config.has_vocos(model_config):
        convolutions = model_config.vocos.num_layers + 1
        frames = model_config.vocos.n_fft // hop + convolutions * (config.CONVNEXT_KERNEL - 1)
    return samples, frames


def minimum_first_blocks(model_config: ml_collections.ConfigDict) -> tuple[int, int]:
    """Return the frames that the first block of a causal stream must have, to be exact.

    A causal convolution pads its start by reflecting its first `pad + 1` steps, where pad is the
    effective kernel less the stride. The first block must hold that many steps at every layer of
    encoder or decoder. Both have the same resolutions: `steps` per frame, from the hop down to 1.

    Networks that are not causal, or that pad with zeros, as those of spectra do, need one frame.

    Returns:
      Frames of the first block of audio, and of the first block of codes.
    """
    if not model_config.causal or model_config.pad_mode != "reflect":
        return 1, 1
    steps = config.hop_length(model_config)
    ends = (model_config.kernel_size, model_config.last_kernel_size)
    pads = [(kernel - 1, at) for kernel in ends for at in (1, steps)]
    for ratio in reversed(model_config.ratios):
        pads += [(kernel - 1, steps) for kernel in _residual_kernels(model_config)]
        pads.append((ratio, steps))  # downsampling: kernel 2 * ratio, stride ratio
        steps //= ratio
    first = max(-(-(pad + 1) // steps) for pad, steps in pads)
    return (
        1 if config.has_fourier(model_config) else first,
        1 if config.has_vocos(model_config) else first,
    )


def lags(model_config: ml_collections.ConfigDict) -> tuple[int, int]:
    """Return how far a stream of blocks lags behind; 0 if the model is causal or takes whole rows.

    A convolution that is not causal waits for the steps that it looks ahead; at a lower resolution
    it waits for whole steps of that resolution. The overlap-add of a Vocos decoder, causal or not,
    waits until the windows that cover a sample are there.

    Returns:
      Frames by which the encoder's codes lag, and samples by which the decoder's audio lags.
    """
    if model_config.norm == "time_group_norm":
        return 0, 0
    encoder = decoder = 0
    if not model_config.causal:
        residual = sum((kernel - 1) // 2 for kernel in _residual_kernels(model_config))
        encoder = decoder = model_config.kernel_size // 2
        for ratio in reversed(model_config.ratios):
            encoder = -(-(encoder + residual + ratio // 2) // ratio)
        for ratio in model_config.ratios:
            decoder = decoder * ratio + ratio - ratio // 2 + residual
        last = model_config.last_kernel_size // 2
        encoder, decoder = encoder + last, decoder + last
    hop = config.hop_length(model_config)
    if config.has_fourier(model_config) and not model_config.causal:
        fourier = model_config.fourier
        ahead = -(-(fourier.n_fft - hop) // 2 // hop)  # of a window, in whole frames
        encoder = ahead + fourier.num_layers * (config.CONVNEXT_KERNEL // 2)
    if config.has_vocos(model_config):
        vocos = model_config.vocos
        ahead = 0 if vocos.causal else (vocos.num_layers + 1) * (config.CONVNEXT_KERNEL // 2)
        decoder = ahead * hop + (vocos.n_fft - hop) // 2
    return encoder, decoder


def _residual_kernels(model_config: ml_collections.ConfigDict) -> list[int]:
    """Return the effective kernel of each residual layer of a stage, in steps."""
    return [
        (model_config.residual_kernel_size - 1) * model_config.dilation_base**layer + 1
        for layer in range(model_config.num_residual_layers)
    ]
