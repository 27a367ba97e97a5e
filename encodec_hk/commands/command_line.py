"""The commands of run.py, and the flags of each."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

_SOUND = (
    *("checkpoint", "bandwidth", "num_codebooks", "sample_format", "rescale", "force"),
    *("suffix", "format", "recover", "raw_rate", "raw_channels", "raw_format"),
)
COMMANDS = {  # the arguments and the flags of each
    "infer": ("IN [OUT]", _SOUND),
    "convert": ("", ("source", "output", "to", "verify", "licence", "int16")),
    "train": ("", ("data", "workdir", "validation", "init", "licence", "distributed")),
    "describe": ("", ()),
    "info": ("FILE", ()),
    "bench": ("", ("checkpoint", "bandwidth", "measure", "compare", "frames", "threads", "out")),
    "evaluate": (
        "",
        (
            *("checkpoint", "data", "bandwidths", "baselines", "compare", "out", "speech"),
            *("report_files", "workers"),
        ),
    ),
}
FLAGS = tuple(dict.fromkeys(name for _, names in COMMANDS.values() for name in names))

flags.DEFINE_string(
    "checkpoint",
    None,
    "infer, bench, evaluate: the weights; without --config, with their own. evaluate: or several, "
    "with commas between, to compare models.",
)
flags.DEFINE_float("bandwidth", None, "infer, bench: kbps, a whole number of codebooks.")
flags.DEFINE_integer("num_codebooks", None, "infer: the same as a number of codebooks.")
flags.DEFINE_enum("sample_format", "int16", ["int16", "int24", "float32"], "infer: of the outputs.")
flags.DEFINE_bool("force", False, "infer: overwrite the file that OUT names.")
flags.DEFINE_bool("rescale", False, "infer: scale outputs above full scale, instead of clipping.")
flags.DEFINE_string("suffix", None, "infer: of outputs in a folder or on stdout: .wav, .ecdc, ...")
flags.DEFINE_enum(
    "format", None, ["v0", "v1"], "infer: of .ecdc files; v0, Meta's, by default for Meta's models."
)
flags.DEFINE_bool("recover", False, "infer: put silence in place of damage in .ecdc files.")
flags.DEFINE_integer("raw_rate", None, "infer: Hz of samples without a header on stdin or stdout.")
flags.DEFINE_integer("raw_channels", 1, "infer: channels of such samples.")
flags.DEFINE_enum(
    "raw_format", "s16le", ["s16le", "s24le", "s32le", "f32le"], "infer: of such samples."
)
flags.DEFINE_list(
    "measure",
    ["whole", "layers", "stream", "start"],
    "bench: what to time, with commas between: whole signals (--config.bench has which), the "
    "layers of a block, single frames of a stream, starts of infer.",
)
flags.DEFINE_integer("frames", 750, "bench: how many frames to time.")
flags.DEFINE_integer("threads", None, "bench: cores to use; all by default.")
flags.DEFINE_string(
    "out",
    None,
    "bench: a .json file for the figures, or an .md file for the tables. evaluate: the folder to "
    "write to, evaluation_NAME by default; a run that was interrupted goes on there.",
)
flags.DEFINE_string("source", None, "convert: a file, a transformers folder or a hub name.")
flags.DEFINE_string("output", None, "convert: a .safetensors file; a folder of --to=transformers.")
flags.DEFINE_enum("to", "haiku", ["haiku", "transformers"], "convert: the form to write.")
flags.DEFINE_bool("int16", False, "convert: write integers, for about half the size.")
flags.DEFINE_bool("verify", False, "convert: run PyTorch beside ours, print how far they agree.")
flags.DEFINE_string("licence", None, "convert, train: of the weights, where it is not known.")
flags.DEFINE_string(
    "data",
    None,
    "train: a folder, or a glob in quotes, of audio. evaluate: the same, or a file; by default the "
    "clips in assets/clips.",
)
flags.DEFINE_string("workdir", None, "train: the run's folder; one that is there goes on.")
flags.DEFINE_string("validation", None, "train: audio to validate on, else 1 file in 20 of --data.")
flags.DEFINE_string("init", None, "train: a checkpoint of ours to start from.")
flags.DEFINE_string(
    "distributed",
    None,
    "train: be one process of several. HOST:PORT,INDEX,COUNT names the first one's address; "
    "'auto' asks the cluster.",
)
flags.DEFINE_list(
    "bandwidths", None, "evaluate: kbps with commas between; those of the model by default."
)
flags.DEFINE_list(
    "baselines", ["opus", "mp3"], "evaluate: codecs to compare with; --baselines= for none."
)
flags.DEFINE_list(
    "compare",
    [],
    "evaluate: transformers, for PyTorch's codes beside ours. bench: what to time beside ours: "
    "transformers, transformers_compiled (torch.compile), encodec, with commas between.",
)
flags.DEFINE_multi_string(
    "speech", None, "evaluate: a glob in quotes of files that are speech, besides those named so."
)
flags.DEFINE_integer("report_files", 8, "evaluate: how many files to listen to in the report.")
flags.DEFINE_integer("workers", None, "evaluate: processes that measure; one per core by default.")


def check(command: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Whether a command takes such arguments and the flags that are present.

    Returns:
      The names of its flags.

    Raises:
      ValueError: it does not, or there is no such command.
    """
    if command not in COMMANDS:
        raise ValueError(f"command: got {command!r}, must be one of {', '.join(COMMANDS)}")
    usage, names = COMMANDS[command]
    allowed = {"": (0,), "FILE": (1,)}.get(usage, (1, 2))
    if len(arguments) not in allowed:
        hint = f"{usage} (a pattern in quotes)" if len(allowed) > 1 else usage or "none"
        raise ValueError(f"{command}: got {len(arguments)} arguments, takes {hint}")
    for name in FLAGS:
        if flags.FLAGS[name].present and name not in names:
            raise ValueError(f"{command}: --{name} is a flag of another command")
    return names
