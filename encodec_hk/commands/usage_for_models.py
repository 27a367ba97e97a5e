"""Arguments, flags and examples of the commands about models."""

from __future__ import annotations

from encodec_hk.commands import flag_types

EXPORT_FORMATS = ("onnx", "stablehlo", "web")

DESCRIBE = flag_types.Command(
    "Show the network of a config: shapes, parameters, cost, bandwidths.",
    "Print every module of the network with its output shape, parameters and multiply-adds for one "
    "second of audio; then hop, frame rate, receptive field, and the kbps of each number of "
    "codebooks.",
    examples=(
        "describe",
        "describe --config=encodec_48khz",
        "describe --config=encodec_24khz --config.model.num_filters=16",
    ),
)

CONVERT = flag_types.Command(
    "Convert PyTorch checkpoints to this project's format, and back to transformers.",
    "Read a checkpoint of Meta's encodec, transformers, audiocraft or vocos, or a language "
    "model of Meta's (encodec_lm_24khz-1608e3c0.th), and write one self-describing .safetensors "
    "file. With --to=transformers, write a folder that "
    "transformers.EncodecModel.from_pretrained loads. "
    "Needs more packages: {convert}.",
    (
        flag_types.Flag(
            "source",
            "string",
            "SOURCE",
            "A hub name such as facebook/encodec_24khz, a transformers folder, a .th or .bin file, "
            "or a checkpoint of this project.",
            otherwise="required",
        ),
        flag_types.Flag(
            "output",
            "string",
            "PATH",
            "The .safetensors file to write; with --to=transformers, a new or empty folder.",
            otherwise="required",
        ),
        flag_types.Flag(
            "join",
            "string",
            "SOURCE",
            "An EnCodec model, which gives its encoder to the Vocos decoder that --source names.",
            otherwise="none: a decoder without an encoder",
        ),
        flag_types.Flag("to", ("haiku", "transformers"), "", "The format to write.", "haiku"),
        flag_types.Flag(
            "verify",
            "switch",
            "",
            "Run the PyTorch network beside this project's, and print how far they agree.",
        ),
        flag_types.Flag(
            "int16",
            "switch",
            "",
            "Store the weights as integers, in about half the space. Codes stay nearly all equal.",
        ),
        flag_types.LICENCE,
        flag_types.Flag("force", "switch", "", "Replace an output file that exists."),
    ),
    examples=(
        "convert --source=facebook/encodec_24khz --output=encodec_24khz.safetensors --verify",
        "convert --config=encodec_48khz --source=encodec_48khz-7e698e3e.th "
        "--output=encodec_48khz.safetensors",
        "convert --source=encodec_24khz.safetensors --to=transformers --output=encodec_24khz_hf",
        "convert --source=charactr/vocos-encodec-24khz --join=facebook/encodec_24khz "
        "--output=vocos_encodec_24khz.safetensors",
    ),
)

EXPORT = flag_types.Command(
    "Write a model as files for programs without this package.",
    "Write a folder that other runtimes load: onnx for ONNX Runtime, stablehlo for JAX without "
    "Haiku, web for a page that codes in the browser. The folder appears when it is complete. onnx "
    "and web need {onnx}.",
    (
        flag_types.CHECKPOINT,
        flag_types.Flag("format", EXPORT_FORMATS, "", "The format to write.", otherwise="required"),
        flag_types.Flag(
            "output", "string", "PATH", "The new or empty folder to write.", otherwise="required"
        ),
        flag_types.Flag(
            "bandwidth",
            "number",
            "KBPS",
            "Bandwidth of the encoder in kbps.",
            otherwise="stablehlo: all codebooks; onnx: as the caller asks",
        ),
        flag_types.LICENCE._replace(text="Licence of the weights, stored in the folder."),
        flag_types.Flag(
            "runtime",
            "string",
            "PATH",
            "With --format=web, a folder with the unpacked npm package onnxruntime-web.",
            otherwise="npm fetches it",
        ),
        flag_types.Flag("force", "switch", "", "Replace a folder that an export has written."),
    ),
    examples=(
        "export --format=onnx --output=codec_onnx",
        "export --format=stablehlo --output=codec_stablehlo",
        "export --format=web --output=codec_page",
    ),
)

TRAIN = flag_types.Command(
    "Train a model on sound of your own, or fine-tune one.",
    "Train by the paper's recipe, and write WORKDIR/NAME.safetensors, which every other command "
    "takes. The same command resumes an interrupted run. Needs more packages: {train}.",
    (
        flag_types.TRAINING_DATA,
        flag_types.WORKDIR,
        flag_types.Flag(
            "validation",
            "string",
            "SOUND",
            "Sound to validate on, given like --data.",
            otherwise="1 file in 20 of --data, held out, if there are more than 10",
        ),
        flag_types.Flag(
            "init",
            "string",
            "MODEL",
            "Model that a new run starts from, given like --checkpoint of infer.",
            otherwise="random weights",
        ),
        flag_types.LICENCE._replace(otherwise="none"),
        flag_types.Flag(
            "distributed",
            "string",
            "HOST:PORT,INDEX,COUNT",
            "Run as one of COUNT processes, with the address of the first and this one's INDEX "
            "from 0; or `auto` on a cluster that JAX knows.",
            otherwise="one process",
        ),
    ),
    examples=(
        "train --data=music --workdir=run --config=encodec_tiny",
        "train --data=music --workdir=run --config.training.num_steps=20000",
        "train --data=speech --workdir=tuned --init=encodec_24khz_small.safetensors "
        "--config.training.frozen=\"('encoder','quantizer')\"",
    ),
)

TRAIN_LANGUAGE = flag_types.Command(
    "Train a language model, with which .ecdc files take fewer bits.",
    "Encode sound once, train a model of its codes, and write WORKDIR/NAME_language.safetensors, "
    "which `infer` takes by --language or finds beside the checkpoint. The same command resumes an "
    "interrupted run. Needs more packages: {train}.",
    (
        flag_types.CHECKPOINT,
        flag_types.TRAINING_DATA,
        flag_types.WORKDIR,
        flag_types.Flag(
            "validation",
            "string",
            "SOUND",
            "Sound to measure on, given like --data.",
            otherwise="a twentieth of the codes of --data, held out",
        ),
        flag_types.LICENCE._replace(otherwise="none"),
    ),
    examples=("train_language --data=music --workdir=run",),
)

EVALUATE = flag_types.Command(
    "Measure quality, bitrate and speed of models, beside Opus and MP3.",
    "Send sound through models and baseline codecs at every bandwidth, print tables, and write "
    "metrics.csv, summary.json and report.html. The same command resumes an interrupted run. "
    "Most metrics need more packages, {evaluate}; what is missing is named.",
    (
        flag_types.Flag(
            "checkpoint",
            "string",
            "MODEL",
            f"{flag_types.CHECKPOINT.text} Several, with commas between, are compared.",
            otherwise="the config's",
        ),
        flag_types.Flag(
            "data",
            "string",
            "SOUND",
            "Sound to measure on: a file, a folder (searched recursively) or a pattern in quotes.",
            otherwise="the clips of a clone",
        ),
        flag_types.Flag(
            "bandwidths",
            "list",
            "KBPS,...",
            "Bandwidths in kbps. Each model takes those that it has.",
            otherwise="all of each model",
        ),
        flag_types.Flag(
            "baselines",
            "list",
            "NAME,...",
            "Codecs to compare with: opus, mp3. Nothing after = is none.",
            ["opus", "mp3"],
        ),
        flag_types.Flag(
            "compare",
            "list",
            "NAME",
            "transformers: compare the codes with PyTorch's ({convert}).",
            [],
            "none",
        ),
        flag_types.Flag(
            "out",
            "string",
            "FOLDER",
            "Folder to write to, created if missing.",
            otherwise="evaluation_NAME",
        ),
        flag_types.Flag(
            "speech",
            "repeated",
            "PATTERN",
            "Pattern in quotes of files that are speech although no name says so; may be repeated.",
            otherwise="none",
        ),
        flag_types.Flag("report_files", "integer", "N", "Files to listen to in the report.", 8),
        flag_types.Flag(
            "workers",
            "integer",
            "N",
            "Processes that measure; 0 measures in the main process.",
            otherwise="one per core",
        ),
    ),
    examples=(
        "evaluate --data=speech --bandwidths=3,6",
        "evaluate --data='music/**/*.flac' --checkpoint=a.safetensors,b.safetensors "
        "--baselines=opus",
    ),
)

BENCH = flag_types.Command(
    "Measure how fast a model is on this machine, beside PyTorch.",
    "Time whole signals, layers, single frames of a stream and the start of `infer`, and print "
    "tables. Without a checkpoint the weights are random, which are as fast. The exit status is 1 "
    "if a ratio is below its minimum in --config.bench.min_ratios.",
    (
        flag_types.CHECKPOINT,
        flag_types.Flag(
            "bandwidth", "number", "KBPS", "Bandwidth in kbps.", otherwise="the model's"
        ),
        flag_types.Flag(
            "measure",
            "list",
            "NAME,...",
            "What to time: whole (signals, see --config.bench), layers (of a block), stream "
            "(single frames), start (of infer), tokenize (of files; not by default).",
            ["whole", "layers", "stream", "start"],
        ),
        flag_types.Flag(
            "compare",
            "list",
            "NAME,...",
            "Implementations to time too: transformers, transformers_compiled (torch.compile), "
            "encodec ({convert}); onnxruntime (this model, exported; {onnx}), transformers_onnx "
            "(PyTorch's export of it; both extras).",
            [],
            "none",
        ),
        flag_types.Flag(
            "frames", "integer", "N", "Frames of a stream to time in each direction.", 750
        ),
        flag_types.Flag("threads", "integer", "N", "Cores to use.", otherwise="all"),
        flag_types.Flag(
            "out",
            "string",
            "FILE",
            "A .json file for the figures, or an .md file for the tables.",
            otherwise="none",
        ),
    ),
    examples=(
        "bench --measure=stream --threads=1 --frames=100",
        'bench --config=encodec_48khz --measure=whole --config.bench.seconds="(1,10)" '
        '--config.bench.batches="(1,)"',
    ),
)
