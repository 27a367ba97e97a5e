"""The layers of the networks as ONNX operators: what `networks/` computes, for one graph.

A layer reads its parameters from the graph, which knows the layer by its name.

Shapes: B rows, C channels, T time steps, F frames, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from encodec_hk.export import onnx_graph

Graph = onnx_graph.Graph
Value = onnx_graph.Value

_EPSILON = 1e-5  # of the norm


class ConvOptions(NamedTuple):
    """What all convolutions of a network share; see `networks.convolution`."""

    causal: bool
    norm: str
    pad_mode: str


def conv(
    graph: Graph,
    x: Value,
    options: ConvOptions,
    *,
    stride: int = 1,
    dilation: int = 1,
    activate: bool = True,
) -> Value:
    """Convolve x [B, C, T] -> [B, D, ceil(T / stride)], as `networks.convolution.Conv`."""
    weight = np.transpose(graph.param("w"), (2, 1, 0))
    _, channels, kernel = weight.shape
    total = (kernel - 1) * dilation + 1 - stride
    right = 0 if options.causal else total // 2
    left = total - right
    if activate:
        x = graph.op("Elu", x)
    x, pads = pad(graph, x, channels, left, right, stride, options.pad_mode)
    y = graph.op(
        "Conv",
        x,
        graph.weight("w", weight),
        graph.weight("b", graph.param("b")),
        kernel_shape=[kernel],
        strides=[stride],
        dilations=[dilation],
        pads=pads,
    )
    return group_norm(graph, y) if options.norm == "time_group_norm" else y


def conv_transpose(
    graph: Graph, x: Value, options: ConvOptions, *, stride: int, activate: bool = True
) -> Value:
    """Map x [B, C, T] -> [B, D, T * stride], as `networks.convolution.ConvTranspose`."""
    polyphase, bias = graph.param("w"), graph.param("b")
    _, channels, _ = polyphase.shape
    taps = polyphase[::-1].reshape(2, channels, stride, len(bias))  # of x[j], of x[j - 1]
    weight = taps.transpose(1, 3, 0, 2).reshape(channels, len(bias), 2 * stride)
    trim = 0 if options.causal else stride - stride // 2
    pads = [trim, stride - trim]
    if activate:
        x = graph.op("Elu", x)
    if graph.kind == "step":
        x = graph.op("Concat", graph.state("last", channels, 1), x, axis=-1)
        pads = [stride, stride]
    graph.keep("last", graph.slice(x, -1), channels, 1)
    has_norm = options.norm == "time_group_norm"
    y = graph.op(
        "ConvTranspose",
        x,
        graph.weight("w", weight),
        graph.weight("b", bias),
        kernel_shape=[2 * stride],
        strides=[stride],
        pads=[0, 0] if has_norm else pads,
    )
    if has_norm:
        y = graph.slice(group_norm(graph, y), trim, trim - stride or None)
    return y


def group_norm(graph: Graph, x: Value) -> Value:
    """Normalise x [B, C, T] over channels and time, as `networks.group_norm.TimeGroupNorm`."""
    with graph.layer("norm"):
        scale, offset = graph.param("scale"), graph.param("offset")
        # Over time first: two short sums round less than a long one.
        time, channels = graph.constant([2]), graph.constant([1])
        mean = graph.op("ReduceMean", graph.op("ReduceMean", x, time), channels)
        centred = graph.op("Sub", x, mean)
        squares = graph.op("ReduceMean", graph.op("Mul", centred, centred), time)
        variance = graph.op("ReduceMean", squares, channels)
        deviation = graph.op(
            "Sqrt", graph.op("Add", variance, graph.constant(_EPSILON, np.float32))
        )
        factor = graph.op("Div", graph.weight("scale", scale[:, None]), deviation)
        scaled = graph.op("Mul", centred, factor)
        return graph.op("Add", scaled, graph.weight("offset", offset[:, None]))


def lstm(graph: Graph, x: Value, num_layers: int) -> Value:
    """Run x [B, D, F] through LSTM layers and add x, as `networks.lstm.LSTM`."""
    first = graph.constant([0])
    y = graph.op("Transpose", x, perm=[2, 0, 1])  # [F, B, D]
    for index in range(num_layers):
        with graph.layer(f"layer_{index}"):
            w_i, w_h, b = (_gates(graph.param(name)) for name in ("w_i", "w_h", "b"))
            width = w_h.shape[0]
            states = ["", ""]
            if graph.kind == "step":
                states = [graph.op("Unsqueeze", graph.state(s, width), first) for s in ("h", "c")]
            weights = [
                graph.weight("w_i", w_i.T[None]),
                graph.weight("w_h", w_h.T[None]),
                graph.weight("b", np.concatenate([b, np.zeros_like(b)])[None]),
            ]
            y, *last = graph.ops("LSTM", y, *weights, "", *states, outputs=3, hidden_size=width)
            y = graph.op("Squeeze", y, graph.constant([1]))  # the directions
            for name, value in zip(("h", "c"), last, strict=True):
                graph.keep(name, graph.op("Squeeze", value, first), width)
    return graph.op("Add", x, graph.op("Transpose", y, perm=[1, 2, 0]))


def _gates(array: np.ndarray) -> np.ndarray:
    """Put the gates i, f, g, o along the last axis into ONNX's order i, o, f, g."""
    i, f, g, o = np.split(array, 4, axis=-1)
    return np.concatenate([i, o, f, g], axis=-1)


def pad(
    graph: Graph, x: Value, channels: int, left: int, right: int, stride: int, mode: str
) -> tuple[Value, list[int]]:
    """Put a convolution's padding around x [B, C, T], as `networks.padding.pad_block`.

    `stride - 1` steps are added whether or not they are needed to fill the last stride: those that
    do not fill one change nothing.

    Returns:
      The padded signal, and how many zeros the convolution has to add before and after it.
    """
    if not left:  # of a kernel of one step
        return x, [0, 0]
    room, is_step, is_zero = right + stride - 1, graph.kind == "step", mode == "constant"
    before: list[Value] = []  # nothing if the convolution adds zeros
    if is_step:
        before = [graph.state("context", channels, left)]
    elif not is_zero:
        before = [_head(graph, x, left)]

    recent = graph.slice(x, -left)
    if before:
        recent = graph.op("Concat", *before, recent, axis=-1)
    else:
        recent = graph.op("Pad", recent, graph.constant([left, 0]), "", graph.constant([-1]))
    graph.keep("context", graph.slice(recent, -left), channels, left)

    after: list[Value] = []
    if room and not is_zero:
        # A stream has steps enough before its end, a whole signal may be shorter than its padding.
        mirrored = graph.slice(recent, -2, -room - 2, step=-1)
        after = [mirrored if is_step else _tail(graph, x, left, right, stride)]
    if before or after:
        x = graph.op("Concat", *before, x, *after, axis=-1)
    return x, [0 if before else left, room if is_zero else 0]


def _head(graph: Graph, x: Value, left: int) -> Value:
    """Return the reflection before a signal, x[left], ..., x[1], with zeros after a short one."""
    first = graph.slice(x, 0, left + 1)
    padded = graph.op("Pad", first, graph.constant([0, left]), "", graph.constant([-1]))
    return graph.slice(padded, left, 0, step=-1)


def _tail(graph: Graph, x: Value, left: int, right: int, stride: int) -> Value:
    """Return the reflection after a signal, at least as many steps as fill the last stride.

    A signal no longer than its padding is reflected as if zeros followed it, up to one step more
    than the padding.
    """
    one, time, room = graph.constant([1]), graph.constant([-1]), right + stride - 1
    amount = graph.constant([left])
    if room > left:
        missing = graph.op("Mod", graph.op("Neg", _length(graph, x)), graph.constant([stride]))
        amount = graph.op("Max", amount, graph.op("Add", missing, graph.constant([right])))
    extent = graph.op("Add", amount, one)
    end = graph.slice(x, graph.op("Neg", extent))
    length = _length(graph, end)
    zeros = graph.op("Concat", graph.constant([0]), graph.op("Sub", extent, length), axis=0)
    filled = graph.op("Pad", end, zeros, "", time)
    widths = graph.op("Concat", graph.constant([0]), amount, axis=0)
    mirrored = graph.op("Pad", filled, widths, "", time, mode="reflect")
    return graph.slice(mirrored, length, graph.op("Add", length, graph.constant([room])))


def _length(graph: Graph, x: Value) -> Value:
    return graph.op("Shape", x, start=-1)
