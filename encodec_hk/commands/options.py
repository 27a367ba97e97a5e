"""The commands of run.py, and the flags of each."""

from __future__ import annotations

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
    "bench": ("", ("checkpoint", "bandwidth", "frames", "threads", "out")),
}
FLAGS = tuple(dict.fromkeys(name for _, names in COMMANDS.values() for name in names))

flags.DEFINE_string(
    "checkpoint", None, "infer, bench: the weights; without --config, with their own."
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
flags.DEFINE_integer("frames", 750, "bench: how many frames to time.")
flags.DEFINE_integer("threads", None, "bench: cores to use; all by default.")
flags.DEFINE_string("out", None, "bench: a JSON file to write the figures to.")
flags.DEFINE_string("source", None, "convert: a file, a transformers folder or a hub name.")
flags.DEFINE_string("output", None, "convert: a .safetensors file; a folder of --to=transformers.")
flags.DEFINE_enum("to", "haiku", ["haiku", "transformers"], "convert: the form to write.")
flags.DEFINE_bool("int16", False, "convert: write integers, for about half the size.")
flags.DEFINE_bool("verify", False, "convert: run PyTorch beside ours, print how far they agree.")
flags.DEFINE_string("licence", None, "convert, train: of the weights, where it is not known.")
flags.DEFINE_string("data", None, "train: a folder, or a glob in quotes, of audio.")
flags.DEFINE_string("workdir", None, "train: the run's folder; one that is there goes on.")
flags.DEFINE_string("validation", None, "train: audio to validate on, else 1 file in 20 of --data.")
flags.DEFINE_string("init", None, "train: a checkpoint of ours to start from.")
flags.DEFINE_string(
    "distributed",
    None,
    "train: be one process of several. HOST:PORT,INDEX,COUNT names the first one's address; "
    "'auto' asks the cluster.",
)
