"""A graph of ONNX operators under construction, and the parameters that graphs share.

Values are the names of a graph's tensors. A node is named after the layer that it belongs to, such
as `stage_0/residual_0/conv_0/Conv`, and a parameter as in the checkpoint.
"""

from __future__ import annotations

import contextlib
import copy
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from encodec_hk.networks import model
from encodec_hk.system import extras

if TYPE_CHECKING:
    import onnx

OPSET = 20
IR_VERSION = 9  # the first with this opset
PRODUCER = "encodec-hk"

Value = str
Dim = str | int
Kind = Literal["whole", "start", "step"]
"""What a graph takes: a whole signal, the first block of a stream, or any later one."""

_ALIGNMENT = 64  # bytes, of a parameter in its file


class Weights:
    """The parameters of the graphs of one network, in one file beside them.

    Attributes:
      file_name: of that file.
    """

    def __init__(self, file_name: str):
        self.file_name = file_name
        self._arrays: dict[str, np.ndarray] = {}
        self._offsets: dict[str, int] = {}
        self._size = 0

    def tensor(self, name: str, array: np.ndarray) -> onnx.TensorProto:
        """Return the tensor that stands for an array in a graph; store the array once."""
        if name not in self._arrays:
            array = np.ascontiguousarray(array)
            self._size += -self._size % _ALIGNMENT
            self._arrays[name], self._offsets[name] = array, self._size
            self._size += array.nbytes
        array = self._arrays[name]
        proto = _onnx().TensorProto
        tensor = proto(
            name=name,
            dims=array.shape,
            data_type=_onnx().helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=proto.EXTERNAL,
        )
        facts = {
            "location": self.file_name,
            "offset": self._offsets[name],
            "length": array.nbytes,
        }
        for key, value in facts.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    def write(self, folder: pathlib.Path) -> None:
        """Write the file into a folder."""
        with open(folder / self.file_name, "wb") as file:
            for name, array in self._arrays.items():
                file.write(bytes(self._offsets[name] - file.tell()))
                file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


class Graph:
    """Nodes, inputs and outputs of a graph under construction.

    Attributes:
      kind: what the graph takes. A "step" has the states of a stream as inputs, named as the layers
        are, and a "start" and a "step" give the next ones, named `next_...`.
      states: names and shapes of the states, the first dimension of each is the batch.
    """

    def __init__(self, params: model.Params, weights: Weights, kind: Kind):
        self.kind = kind
        self.states: dict[str, tuple[int, ...]] = {}
        self._params = params
        self._weights = weights
        self._scope: list[str] = []
        self._names: dict[str, int] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    @contextlib.contextmanager
    def layer(self, name: str) -> Iterator[None]:
        """Name the nodes, parameters and states of a context after a layer."""
        self._scope.append(name)
        yield
        self._scope.pop()

    def param(self, name: str) -> np.ndarray:
        """Return a parameter of the layer as the checkpoint has it."""
        return np.asarray(self._params["/".join(self._scope)][name])

    def op(self, operator: str, *inputs: Value, **attributes: Any) -> Value:
        """Add a node of one output and return that output; an absent input is ""."""
        return self.ops(operator, *inputs, outputs=1, **attributes)[0]

    def ops(self, operator: str, *inputs: Value, outputs: int, **attributes: Any) -> list[Value]:
        """Add a node of so many outputs and return them."""
        name = self._unique("/".join([*self._scope, operator]))
        values = [f"{name}:{index}" if index else name for index in range(outputs)]
        node = _onnx().helper.make_node(operator, inputs, values, name=name, **attributes)
        self._nodes.append(node)
        return values

    def weight(self, name: str, array: np.ndarray) -> Value:
        """Return a parameter of the layer as the graph has it."""
        name = "/".join([*self._scope, name])
        self._initializers[name] = self._weights.tensor(name, array)
        return name

    def constant(self, value: Any, dtype: type = np.int64) -> Value:
        """Return a small constant, which is kept in the graph."""
        array: np.ndarray = np.asarray(value, dtype)
        name = f"constant/{array.dtype}/{str(array.tolist()).replace(' ', '')}"
        if name not in self._initializers:
            self._initializers[name] = _onnx().numpy_helper.from_array(array, name)
        return name

    def input(self, name: str, shape: Sequence[Dim], dtype: type = np.float32) -> Value:
        """Add an input."""
        self._inputs.append(_info(name, shape, dtype))
        return name

    def output(
        self, name: str, value: Value, shape: Sequence[Dim], dtype: type = np.float32
    ) -> None:
        """Make a value an output."""
        self._nodes.append(
            _onnx().helper.make_node("Identity", [value], [name], name=f"{name}/Identity")
        )
        self._outputs.append(_info(name, shape, dtype))

    def state(self, name: str, *shape: int) -> Value:
        """Return what the layer kept from the block before, [B, *shape], in a "step"."""
        return self.input(self._state_name(name), ("batch", *shape))

    def keep(self, name: str, value: Value, *shape: int) -> None:
        """Keep a value [B, *shape] for the next block, unless the graph takes whole signals."""
        if self.kind == "whole":
            return
        name = self._state_name(name)
        self.states[name] = shape
        self.output(f"next_{name}", value, ("batch", *shape))

    def slice(
        self,
        x: Value,
        start: int | Value,
        end: int | Value | None = None,
        *,
        axis: int = -1,
        step: int = 1,
    ) -> Value:
        """Return x[start:end:step] along an axis; None for the end on that side."""
        far = np.iinfo(np.int64)
        if end is None:
            end = far.max if step > 0 else far.min
        bounds = [b if isinstance(b, Value) else self.constant([b]) for b in (start, end)]
        return self.op("Slice", x, *bounds, self.constant([axis]), self.constant([step]))

    def subgraph(self) -> Graph:
        """Return the graph of a loop's body, which may use the values of this one."""
        inner = copy.copy(self)
        inner._nodes, inner._inputs, inner._outputs = [], [], []
        return inner

    def body(self, name: str) -> onnx.GraphProto:
        """Return the nodes, inputs and outputs of a `subgraph`."""
        return _onnx().helper.make_graph(self._nodes, name, self._inputs, self._outputs)

    def model(self, name: str, facts: Mapping[str, str]) -> bytes:
        """Return the finished model, with `facts` as its metadata."""
        helper = _onnx().helper
        nodes, used = self._needed()
        made = helper.make_model(
            helper.make_graph(
                nodes,
                name,
                self._inputs,
                self._outputs,
                initializer=[value for key, value in self._initializers.items() if key in used],
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
        )
        helper.set_model_props(made, dict(facts))
        return made.SerializeToString(deterministic=True)

    def _needed(self) -> tuple[list[onnx.NodeProto], set[Value]]:
        """Return the nodes that outputs depend on, and the values that these use."""
        needed, used = [], {output.name for output in self._outputs}
        for node in reversed(self._nodes):
            if used.intersection(node.output):
                needed.append(node)
                inner = (each for attribute in node.attribute for each in attribute.g.node)
                for each in (node, *inner):
                    used.update(each.input)
        return needed[::-1], used

    def _state_name(self, name: str) -> str:
        return "_".join([*self._scope[1:], name])

    def _unique(self, name: str) -> str:
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"


def _info(name: str, shape: Sequence[Dim], dtype: type) -> onnx.ValueInfoProto:
    helper = _onnx().helper
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)


def _onnx() -> ModuleType:
    return extras.require("onnx", "onnx")
