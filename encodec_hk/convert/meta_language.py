"""Meta's language models of codes, `encodec_lm_24khz` and `encodec_lm_48khz`.

A file of this project with such a model is a safetensors file: Meta's tensors under Meta's names,
and the metadata `format` (FORMAT), `format_version`, `codec`, `source`, `source_sha256`, `licence`.

The model is a transformer of 5 layers, which sees the frames before the next one, at most 3.5 s of
them, and gives the probabilities of all codes of that frame at once. An arithmetic coder needs
every bit of them, so they are computed with the operations of Meta's program, in its order, by
PyTorch. What is saved against Meta's: keys and values are kept instead of computed anew for all
frames at every step. They have the same bits where the products of many rows have those of four;
this is checked against the actual product for every number of rows, and where it fails, all are
computed anew.

Shapes: K codebooks, N entries, S frames seen and the new one, D = 200 width.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from encodec_hk import bitstream
from encodec_hk import checkpoint
from encodec_hk.convert import pytorch_files
from encodec_hk.pretrained import published
from encodec_hk.pretrained import transformers_files
from encodec_hk.system import extras
from encodec_hk.system import file_errors
from encodec_hk.system import invocation
from encodec_hk.system import part_file

FORMAT = "encodec_hk_meta_language"
FORMAT_VERSION = "1"

_METADATA = ("format", "format_version", "codec", "source", "source_sha256", "licence")
_LAYERS, _WIDTH, _HEADS, _HIDDEN, _ENTRIES = 5, 200, 8, 800, 1024
_MAX_PERIOD = 10000
_PAST_SECONDS = 3.5
_ROWS = 4  # of a product whose rows have the bits of longer ones
_MAX_THREADS = 16


def codec_of(tensors: dict[str, np.ndarray]) -> str | None:
    """Return the codec of Meta's whose language model these tensors are; None if of none."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for name, header in bitstream.META_MODELS.items():
        if shapes == _shapes(header.num_codebooks):
            return name
    return None


def is_source(path: pathlib.Path) -> bool:
    """Return whether a file is named as a language model of Meta's."""
    return path.is_file() and path.name.startswith("encodec_lm_")


def convert(
    source: pathlib.Path,
    output: pathlib.Path,
    *,
    licence: str | None,
    say: Callable[[str], None],
) -> None:
    """Convert Meta's checkpoint, such as encodec_lm_24khz-1608e3c0.th.

    Raises:
      ValueError: if it is damaged, its SHA-256 is not the one in its name, or its tensors are not
        those of such a model.
    """
    transformers_files.check_name(source)
    sha256 = transformers_files.sha256(source)
    say(f"read {source}: {source.name}, SHA-256 {sha256}")
    tensors = pytorch_files.load_tensors(source)
    name = codec_of(tensors)
    if name is None:
        raise ValueError(
            f"{source}: its tensors are not those of the language model of "
            f"{' or '.join(bitstream.META_MODELS)}"
        )
    stated = source.stem.split("-")[0].replace("_lm_", "_")
    if stated != name:
        raise ValueError(f"{source}: named for {stated}, its tensors are for {name}")
    _check_finite(source, tensors)
    known = published.find(source.name, source.name, sha256)
    licence = licence or (known.licence if known else "unknown, see the source")
    say(f"{len(tensors)} tensors: a language model of the codes of {name}")
    say(f"licence of the weights: {licence}")
    values = (FORMAT, FORMAT_VERSION, name, source.name, sha256, licence)
    metadata = dict(zip(_METADATA, values, strict=True))
    plain = {key: np.ascontiguousarray(value, np.float32) for key, value in tensors.items()}
    with file_errors.as_value_error(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        part_file.write(output, safetensors.numpy.save(plain, metadata=metadata))


def load(path: str | os.PathLike[str]) -> MetaLanguage:
    """Read a converted language model, which computes with PyTorch.

    Raises:
      ValueError: if the file is missing, damaged or another one, or PyTorch is not installed.
    """
    path = pathlib.Path(path)
    metadata = checkpoint.read_metadata(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path}: no language model of Meta's (its metadata has no format={FORMAT}); "
            f"`{invocation.command()} convert` makes one from encodec_lm_24khz-1608e3c0.th"
        )
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version {metadata.get('format_version')!r}, "
            f"this program reads {FORMAT_VERSION}"
        )
    tensors = safetensors.numpy.load_file(path)
    name = codec_of(tensors)
    if name is None or name != metadata.get("codec"):
        raise ValueError(f"{path}: its tensors are not those of a language model of its codec")
    _check_finite(path, tensors)
    return MetaLanguage(name, tensors)


def _check_finite(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(f"{path}: {name}: must be finite float32 numbers")


def _shapes(num_codebooks: int) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a model."""
    pairs: dict[str, tuple[int, ...]] = {"norm1": (_WIDTH,), "norm2": (_WIDTH,)}
    pairs |= {"linear1": (_HIDDEN, _WIDTH), "linear2": (_WIDTH, _HIDDEN)}
    pairs |= {"self_attn.out_proj": (_WIDTH, _WIDTH)}
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(_LAYERS):
        start = f"transformer.layers.{layer}"
        shapes[f"{start}.self_attn.in_proj_weight"] = (3 * _WIDTH, _WIDTH)
        shapes[f"{start}.self_attn.in_proj_bias"] = (3 * _WIDTH,)
        for name, shape in pairs.items():
            shapes[f"{start}.{name}.weight"] = shape
            shapes[f"{start}.{name}.bias"] = shape[:1]
    shapes["transformer.norm_in.weight"] = shapes["transformer.norm_in.bias"] = (_WIDTH,)
    for index in range(num_codebooks):
        shapes[f"emb.{index}.weight"] = (_ENTRIES + 1, _WIDTH)
        shapes[f"linears.{index}.weight"] = (_ENTRIES, _WIDTH)
        shapes[f"linears.{index}.bias"] = (_ENTRIES,)
    return shapes


class _Affine(NamedTuple):
    """Weight and bias of a linear layer or a norm."""

    weight: Any
    bias: Any


class _Layer(NamedTuple):
    """Tensors of a layer of the transformer."""

    queries: _Affine
    keys_values: _Affine
    out: _Affine
    linear1: _Affine
    linear2: _Affine
    norm1: _Affine
    norm2: _Affine


class MetaLanguage:
    """A language model of Meta's; a `bitstream.CodePredictor`.

    Attributes:
      codec: name of the variant whose codes it predicts.
      ways: numbers of threads of PyTorch, the one that is set first.
    """

    def __init__(self, codec: str, tensors: dict[str, np.ndarray]):
        torch = extras.require("torch")
        self.codec = codec
        current = torch.get_num_threads()
        counts = (1, 2, *range(4, _MAX_THREADS + 1, 2))
        counts = tuple(count for count in counts if count <= (os.cpu_count() or 1))
        self._threads = {_way(count): count for count in (current, *counts)}
        self.ways: Sequence[str] = tuple(self._threads)
        weights = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
        self.past = int(_PAST_SECONDS * bitstream.META_MODELS[codec].frame_rate)
        self.embeddings: list[Any] = []
        self.heads: list[_Affine] = []
        for index in range(bitstream.META_MODELS[codec].num_codebooks):
            self.embeddings.append(weights[f"emb.{index}.weight"])
            self.heads.append(_affine(weights, f"linears.{index}"))
        self.norm_in = _affine(weights, "transformer.norm_in")
        self.layers = [_layer(weights, f"transformer.layers.{i}") for i in range(_LAYERS)]
        self.checked: set[tuple[int, int]] = set()  # threads and rows whose products were compared
        self.unequal: set[int] = set()  # threads for which keys and values cannot be kept

    def begin(self, num_codebooks: int) -> Callable[[np.ndarray | None], np.ndarray]:
        """Begin a segment; return what takes a frame's codes and predicts the next frame's."""
        return _Segment(self, num_codebooks).step

    @contextlib.contextmanager
    def using(self, way: str) -> Iterator[None]:
        """Compute with a number of threads."""
        torch = extras.require("torch")
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads[way])
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _way(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _affine(weights: dict[str, Any], name: str) -> _Affine:
    return _Affine(weights[f"{name}.weight"], weights[f"{name}.bias"])


def _layer(weights: dict[str, Any], name: str) -> _Layer:
    attention = f"{name}.self_attn"
    split = (_WIDTH, 2 * _WIDTH)
    w_queries, w_both = weights[f"{attention}.in_proj_weight"].split(split)
    b_queries, b_both = weights[f"{attention}.in_proj_bias"].split(split)
    return _Layer(
        _Affine(w_queries, b_queries),
        _Affine(w_both, b_both),
        _affine(weights, f"{attention}.out_proj"),
        *(_affine(weights, f"{name}.{part}") for part in ("linear1", "linear2", "norm1", "norm2")),
    )


class _Segment:
    """The state of a segment: the inputs of every layer, and keys and values made of them."""

    def __init__(self, model: MetaLanguage, num_codebooks: int):
        self._torch = torch = extras.require("torch")
        self._model = model
        self._num_codebooks = num_codebooks
        self._inputs = [torch.zeros(1, 1, _WIDTH) for _ in model.layers]  # [S, 1, D]
        self._kept: list[Any] = [None] * len(model.layers)  # keys and values, [2, S, 1, D]
        self._position = 0
        self._indices = torch.arange(_WIDTH // 2).view(1, 1, -1)

    def step(self, codes: np.ndarray | None) -> np.ndarray:
        """Return the probabilities of the next frame, float32 [K, N], after codes [K]."""
        torch, model = self._torch, self._model
        functional = torch.nn.functional
        with torch.inference_mode():
            inputs = torch.zeros(1, self._num_codebooks, 1, dtype=torch.long)
            if codes is not None:
                inputs = torch.from_numpy(1 + codes.astype(np.int64)).view(1, -1, 1)
            x = sum(
                functional.embedding(inputs[:, k], model.embeddings[k])
                for k in range(self._num_codebooks)
            )
            x = functional.layer_norm(x, (_WIDTH,), *model.norm_in) + self._position_signal()
            for index, layer in enumerate(model.layers):
                attended = self._attention(index, layer, x)
                x = functional.layer_norm(x + attended, (_WIDTH,), *layer.norm1)
                hidden = functional.gelu(functional.linear(x, *layer.linear1))
                fed = functional.linear(hidden, *layer.linear2)
                x = functional.layer_norm(x + fed, (_WIDTH,), *layer.norm2)
            self._position += 1
            heads = model.heads[: self._num_codebooks]
            logits = torch.stack([functional.linear(x, *head) for head in heads], dim=1)
            # [1, N, K, 1], in which another dimension is the last: it decides the order of sums.
            probabilities = torch.softmax(logits.permute(0, 3, 1, 2), dim=1)
            return np.ascontiguousarray(probabilities[0, :, :, 0].numpy().T)

    def _position_signal(self) -> Any:
        torch = self._torch
        position = torch.arange(1).view(1, -1, 1) + self._position
        phase = position / (_MAX_PERIOD ** (self._indices / (_WIDTH // 2 - 1)))
        return torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)

    def _attention(self, index: int, layer: _Layer, x: Any) -> Any:
        """Return the output of the attention of x [1, 1, D] to itself and to the past."""
        torch = self._torch
        functional = torch.nn.functional
        row = x.transpose(0, 1)
        seen = torch.cat([self._inputs[index], row])  # S = what is kept and the new frame
        self._inputs[index] = seen[-self._model.past :]
        queries = functional.linear(row, *layer.queries)
        keys, values = self._keys_values(index, layer, seen)
        count = len(seen)
        split = (_HEADS, _WIDTH // _HEADS)
        queries = queries.view(1, *split).transpose(0, 1).view(1, _HEADS, 1, -1)
        keys = keys.view(count, *split).transpose(0, 1).view(1, _HEADS, count, -1)
        values = values.view(count, *split).transpose(0, 1).view(1, _HEADS, count, -1)
        mask = torch.zeros(1, 1, 1, count)  # all are visible; without a mask, the bits differ
        found = functional.scaled_dot_product_attention(queries, keys, values, mask)
        found = found.permute(2, 0, 1, 3).reshape(1, _WIDTH)
        return functional.linear(found, *layer.out).view(1, 1, _WIDTH)

    def _keys_values(self, index: int, layer: _Layer, seen: Any) -> Any:
        """Return keys and values [2, S, 1, D] of the inputs seen, with the bits of one product."""
        torch, model, count = self._torch, self._model, len(seen)
        threads = torch.get_num_threads()
        kept = self._kept[index]
        if count <= _ROWS or kept is None or threads in model.unequal:
            both = _product(torch, seen, layer.keys_values)
            self._kept[index] = both if count >= _ROWS else None
            return both
        new = _product(torch, seen[-_ROWS:], layer.keys_values)[:, -1:]
        # Once all rows are in use, the oldest leaves.
        both = torch.cat([kept[:, kept.shape[1] + 1 - count :], new], dim=1)
        if (threads, count) not in model.checked:
            model.checked.add((threads, count))
            whole = _product(torch, seen, layer.keys_values)
            if not torch.equal(whole, both):
                model.unequal.add(threads)
            both = whole
        self._kept[index] = both
        return both


def _product(torch: Any, inputs: Any, layer: _Affine) -> Any:
    """Return keys and values [2, S, 1, D] of inputs [S, 1, D], laid out as PyTorch's attention."""
    both = torch.nn.functional.linear(inputs, *layer)
    both = both.unflatten(-1, (2, _WIDTH)).unsqueeze(0).transpose(0, -2)
    return both.squeeze(-2).contiguous()
