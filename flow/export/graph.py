"""Collect nodes and constants of an ONNX graph, each name once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from relay_passes.names import Names

#: The first version of the operator set in which a tensor may have a scale per channel.
OPSET: Final = 13
_IR_VERSION: Final = 8


class GraphWriter:
    """An ONNX graph that grows node by node."""

    def __init__(self) -> None:
        """Start without nodes."""
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._scalars: dict[tuple[str, bytes, tuple[int, ...]], str] = {}
        self._names = Names(())

    def fresh(self, name: str) -> str:
        """Return a name that no tensor has yet."""
        return self._names.fresh(name)

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node of one result; return the result, which is called like the node."""
        (output,) = self.nodes(kind, inputs, [name], **attributes)
        return output

    def nodes(
        self, kind: str, inputs: Sequence[str], names: Sequence[str], **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node of several results; return them."""
        outputs = tuple(self.fresh(name) for name in names)
        self._nodes.append(
            helper.make_node(kind, list(inputs), list(outputs), outputs[0], **attributes)
        )
        return outputs

    def tensor(self, values: NDArray[Any], name: str) -> str:
        """Add a constant; return its name."""
        own = self.fresh(name)
        self._tensors[own] = numpy_helper.from_array(np.ascontiguousarray(values), own)
        return own

    def number(self, values: Any, dtype: Any, name: str = "number") -> str:
        """Add a small constant, or return the one that has these values already.

        One number is called by its value, since others share it.
        """
        array = np.asarray(values, dtype)
        if array.ndim == 0:
            name = f"{array.dtype}_{array[()]:g}"
        key = str(array.dtype), array.tobytes(), array.shape
        if key not in self._scalars:
            self._scalars[key] = self.tensor(array, name)
        return self._scalars[key]

    def model(
        self,
        inputs: Sequence[tuple[str, tuple[int, ...]]],
        outputs: Sequence[tuple[str, str, tuple[int, ...]]],
        name: str,
    ) -> onnx.ModelProto:
        """Return the model: of what was added that which its results need.

        Parameters
        ----------
        inputs : sequence of (name, shape)
            float32.
        outputs : sequence of (tensor, name, shape)
            A tensor of the graph, and how the result is called.
        name : str
            Of the graph.
        """
        value = helper.make_tensor_value_info
        nodes = [helper.make_node("Identity", [t], [n], f"{n}.result") for t, n, _ in outputs]
        needed = {t for t, _, _ in outputs}
        for node in reversed(self._nodes):
            if not needed.isdisjoint(node.output):
                needed.update(node.input)
                nodes.insert(0, node)
        graph = helper.make_graph(
            nodes,
            name,
            [value(n, onnx.TensorProto.FLOAT, list(shape)) for n, shape in inputs],
            [value(n, onnx.TensorProto.FLOAT, list(shape)) for _, n, shape in outputs],
            [tensor for own, tensor in self._tensors.items() if own in needed],
        )
        return helper.make_model(
            graph,
            producer_name="vta-flow",
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
