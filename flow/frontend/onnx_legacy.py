"""Models of operator sets 1 to 6 as models of operator set 7, the oldest that others read today.

ONNX's own converter gives up on them, because shapes cannot be inferred for their operators. What
changed between the versions for operators of CNNs is little:

- Add, Sub, Mul, Div and Pow aligned a small second operand by ``axis``, not from the right;
- the shape of a Reshape was an attribute;
- BatchNormalization and Dropout said whether they train;
- ``consumed_inputs`` told an allocator what it may overwrite.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from onnx import helper, numpy_helper

from flow.frontend.onnx_nodes import attributes_of

#: Attributes that say nothing about a result.
_FORGOTTEN: Final[Mapping[str, frozenset[str]]] = {
    "BatchNormalization": frozenset({"is_test", "spatial"}),
    "Dropout": frozenset({"is_test"}),
    "Gemm": frozenset({"broadcast"}),
}
_ALIGNED: Final = frozenset({"Add", "Sub", "Mul", "Div", "Pow"})
#: Operators whose result has another number of dimensions than their first input.
_RANKS: Final[Mapping[str, int]] = {"Flatten": 2, "Gemm": 2, "FC": 2}


def modernize(proto: Any, version: int) -> None:
    """Rewrite a model of an older operator set for `version`, in place.

    What the newer operators do not know is left for ONNX's checker to refuse.

    Parameters
    ----------
    proto : onnx.ModelProto
        With one default operator set.
    version : int
        7.
    """
    graph = proto.graph
    ranks = {t.name: len(t.dims) for t in graph.initializer}
    ranks |= {v.name: len(v.type.tensor_type.shape.dim) for v in graph.input if v.name not in ranks}
    nodes: list[Any] = []
    for index, node in enumerate(graph.node):
        attributes = attributes_of(node)
        forgotten = _FORGOTTEN.get(node.op_type, frozenset())
        if attributes.get("is_test", 1) and attributes.get("spatial", 1):
            attributes = {k: v for k, v in attributes.items() if k not in forgotten}
        attributes.pop("consumed_inputs", None)
        inputs = list(node.input)
        rank = ranks.get(inputs[0], 0) if inputs else 0
        if node.op_type in _ALIGNED:
            attributes.pop("broadcast", None)
            axis = attributes.pop("axis", None)
            if axis is not None:
                own = ranks.get(inputs[1], 0)
                shape = [0] * own + [1] * (rank - axis % max(rank, 1) - own)
                inputs[1] = _reshape(graph, nodes, inputs[1], shape, f"{index}.aligned")
        elif node.op_type == "Reshape" and "shape" in attributes:
            shape = attributes.pop("shape")
            rank = len(shape)
            name = _constant(graph, np.asarray(shape, np.int64), f"{index}.shape")
            inputs.append(name)
        rank = _RANKS.get(node.op_type, rank)
        ranks |= dict.fromkeys(node.output, rank)
        new = helper.make_node(node.op_type, inputs, node.output, node.name, **attributes)
        new.domain = node.domain
        nodes.append(new)
    del graph.node[:]
    graph.node.extend(nodes)
    for entry in proto.opset_import:
        if entry.domain == "":
            entry.version = version


def _constant(graph: Any, value: Any, suffix: str) -> str:
    """Add an initializer; return its name, which no tensor of the model has."""
    taken = {tensor.name for tensor in graph.initializer}
    taken |= {output for node in graph.node for output in node.output}
    name = suffix
    while name in taken:
        name = f"{name}_"
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _reshape(graph: Any, nodes: list[Any], tensor: str, shape: list[int], suffix: str) -> str:
    """Append a Reshape; 0 in `shape` keeps a dimension."""
    name = _constant(graph, np.asarray(shape, np.int64), f"{suffix}.shape")
    nodes.append(helper.make_node("Reshape", [tensor, name], [f"{name}.result"]))
    return f"{name}.result"
