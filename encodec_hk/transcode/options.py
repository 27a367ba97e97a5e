"""How to transcode files: what the flags of `run.py infer` say, checked."""

from __future__ import annotations

import dataclasses

from encodec_hk.sound import pcm
from encodec_hk.sound import sound_files
from encodec_hk.transcode import ecdc
from encodec_hk.transcode import stdio


@dataclasses.dataclass(frozen=True)
class Options:
    """How to transcode files.

    Attributes:
      bandwidth: kbps; None for the codec's default, or for all codebooks of an .ecdc file.
      num_codebooks: the bandwidth as a number of codebooks; one of both is None.
      sample_format: the format of sound files, a name of `sound_files.SAMPLE_FORMATS`.
      rescale: scale an output that exceeds full scale, instead of clipping it.
      force: overwrite the file that OUT names.
      suffix: the suffix of outputs that OUT does not name, and the format on stdout.
      format: the version of .ecdc files, "v0" or "v1"; None for `ecdc.default_version`, or for the
        source's version if codes are copied.
      recover: decode damaged blocks of .ecdc files as silence.
      raw_rate: Hz of headerless samples on stdin and stdout; None for WAV there.
      raw_channels: channels of headerless samples.
      raw_format: the format of headerless samples, a name of `pcm.RAW_FORMATS`.

    Raises:
      ValueError: if a value is not allowed.
    """

    bandwidth: float | None = None
    num_codebooks: int | None = None
    sample_format: str = "int16"
    rescale: bool = False
    force: bool = False
    suffix: str = ".wav"
    format: str | None = None
    recover: bool = False
    raw_rate: int | None = None
    raw_channels: int = 1
    raw_format: str = "s16le"

    def __post_init__(self) -> None:
        object.__setattr__(self, "suffix", self.suffix.lower())
        if self.bandwidth is not None and self.num_codebooks is not None:
            raise ValueError("bandwidth and num_codebooks: got both, must be one of them")
        for name, allowed in (
            ("sample_format", tuple(sound_files.SAMPLE_FORMATS)),
            ("suffix", (*sound_files.WRITABLE, ecdc.SUFFIX)),
            ("raw_format", tuple(pcm.RAW_FORMATS)),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"--{name}: got {value!r}, must be one of {', '.join(allowed)}")
        for name in ("raw_rate", "raw_channels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name}: got {value}, must be a whole number above 0")

    @property
    def version(self) -> int | None:
        """The version of .ecdc files."""
        return None if self.format is None else int(self.format.removeprefix("v"))

    @property
    def raw(self) -> pcm.Format | None:
        """The format of headerless samples on stdin and stdout; None for WAV there."""
        if self.raw_rate is None:
            return None
        return pcm.Format(self.raw_rate, self.raw_channels, self.raw_format)

    def check_names(self, inputs: str, output: str | None) -> None:
        """Check the options that depend on whether IN and OUT are stdin and stdout.

        Raises:
          ValueError: if one does not fit.
        """
        if self.raw_rate is not None and stdio.NAME not in (inputs, output):
            raise ValueError(f"--raw_rate: got {self.raw_rate}, must be with - as IN or OUT")
        if output != stdio.NAME:
            return
        if self.suffix not in (".wav", ecdc.SUFFIX):
            raise ValueError(
                f"--suffix: got {self.suffix!r}, must be .wav or {ecdc.SUFFIX} on stdout"
            )
        if self.rescale:
            raise ValueError(
                "--rescale: got True, must be False on stdout, which is written before the peak is "
                "known"
            )
