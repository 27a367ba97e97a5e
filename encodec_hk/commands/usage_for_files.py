"""Arguments, flags and examples of the commands that take files of sound and codes."""

from __future__ import annotations

from encodec_hk.commands import flag_types

INFER = flag_types.Command(
    "Encode and decode sound, to sound or to .ecdc files: files, folders, pipes.",
    "Encode sound and decode it again, so that OUT is what the codec makes of IN. If OUT ends in "
    ".ecdc, store the codes instead; if IN is an .ecdc file, decode it. Outputs keep the sample "
    "rate, the channels and the exact length of their inputs.",
    (
        flag_types.CHECKPOINT,
        flag_types.Flag(
            "bandwidth",
            "number",
            "KBPS",
            "Bandwidth in kbps, one of those that `describe` lists. Of an .ecdc file, a lower "
            "bandwidth takes the first codebooks.",
            otherwise="the model's, 6 for the shipped one; all codes of an .ecdc file",
        ),
        flag_types.NUM_CODEBOOKS,
        flag_types.SAMPLE_FORMAT,
        flag_types.RESCALE,
        flag_types.FORCE,
        flag_types.Flag(
            "suffix",
            "string",
            ".SUFFIX",
            "Suffix, and so the container, of outputs that OUT does not name: .wav, .flac, .mp3, "
            ".ogg, .opus, ..., or .ecdc for codes. On stdout .wav or .ecdc.",
            ".wav",
        ),
        flag_types.Flag(
            "format",
            ("v0", "v1"),
            "",
            "Version of .ecdc files. v0 is Meta's; v1 can be sought in and checks its blocks.",
            otherwise="v0 for Meta's two models, else v1; v1 with a --language of train_language",
        ),
        flag_types.Flag(
            "entropy",
            ("auto", "none", "language", "meta"),
            "",
            "Store the codes in .ecdc files with a language model. language: in v1; auto does so "
            "where the checkpoint has one. meta: in v0, as Meta's program does; such files can be "
            "read only where the model computes the same to the last bit. Needs --language, and "
            "{convert}.",
            "auto",
        ),
        flag_types.Flag(
            "language",
            "string",
            "FILE",
            "The language model, to write files with it and to read them: one that train_language "
            "wrote, or one of Meta's that `convert` made.",
            otherwise="NAME_language.safetensors beside the checkpoint",
        ),
        flag_types.Flag(
            "recover",
            "switch",
            "",
            "Decode damaged blocks of .ecdc files as silence, and read files that are cut off up "
            "to there.",
        ),
        flag_types.Flag(
            "raw_rate",
            "integer",
            "HZ",
            "Sample rate in Hz of samples without a header on stdin, stdout and other pipes.",
            otherwise="WAV there",
        ),
        flag_types.Flag("raw_channels", "integer", "N", "Channels of samples without a header.", 1),
        flag_types.Flag(
            "raw_format",
            ("s16le", "s24le", "s32le", "f32le"),
            "",
            "Format of samples without a header.",
            "s16le",
        ),
    ),
    (
        (
            "IN",
            "A file of sound or codes, a folder (searched recursively), a pattern in quotes such "
            "as 'music/**/*.flac', a pipe, or - for stdin.",
        ),
        (
            "[OUT]",
            "A file; a folder where IN is several files; a pipe; or - for stdout. Without it, "
            "outputs go beside their inputs, as NAME_6kbps.wav, or to FOLDER_6kbps.",
        ),
    ),
    (
        "infer speech.wav speech_6kbps.wav",
        "infer music music_3kbps --bandwidth=3 --suffix=.flac",
        "infer speech.wav speech.ecdc",
        "infer speech.ecdc decoded.wav",
        "infer - - --raw_rate=24000 <samples.raw >decoded.raw",
    ),
)

INFO = flag_types.Command(
    "Say what an .ecdc file holds and whether it is complete.",
    "Print the header of an .ecdc file, its contents and its damage. All blocks are read and "
    "checked, and no checkpoint is needed. The exit status is 1 if the file is not complete.",
    arguments=(("FILE", "An .ecdc file, or - for stdin."),),
    examples=("info speech.ecdc",),
)
