"""What those who rewrite an ONNX graph share: reading nodes, and putting others in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


def attributes_of(node: Any) -> dict[str, Any]:
    """Return a node's attributes by name; texts are bytes."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def integers_of(
    node: Any, name: str, constants: Mapping[str, Any], *, place: int = 1
) -> list[int] | None:
    """Return integers that are an attribute, or an input in later operator sets.

    Parameters
    ----------
    node : onnx.NodeProto
    name : str
        Of the attribute.
    constants : mapping
        Name -> tensor of what is constant.
    place : int
        Of the input.

    Returns
    -------
    list of int or None
        None where they are computed, or not given.
    """
    if len(node.input) > place and node.input[place]:
        tensor = constants.get(node.input[place])
        return None if tensor is None else numpy_helper.to_array(tensor).reshape(-1).tolist()
    return next((list(a.ints) for a in node.attribute if a.name == name), None)


def live_nodes(nodes: Sequence[Any], outputs: Iterable[str]) -> list[Any]:
    """Return the nodes that some tensors need, in order."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def set_nodes(graph: Any, nodes: Iterable[Any]) -> None:
    """Put other nodes into a graph; they may be its own."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


@dataclass(slots=True)
class GraphRewriter:
    """A walk through a graph that writes other nodes.

    Parameters
    ----------
    graph : onnx.GraphProto
        With constants folded; changed by `finish`, its initializers before.
    shapes : mapping
        Of its tensors.
    """

    graph: Any
    shapes: Mapping[str, tuple[int, ...]]
    #: Initializers by name.
    constants: dict[str, Any] = field(init=False)
    #: Written so far.
    nodes: list[Any] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Look up constants."""
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}

    def finish(self) -> None:
        """Put what was written in the place of the graph's nodes."""
        set_nodes(self.graph, self.nodes)

    def constant(self, value: Any, name: str) -> str:
        """Add an initializer; return its name, which no tensor of the graph has."""
        while name in self.constants or name in self.shapes:
            name = f"{name}_"
        tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
        self.graph.initializer.append(tensor)
        self.constants[name] = tensor
        return name

    def replaced(self, name: str, value: Any, suffix: str) -> str:
        """Give a constant another value; return its name.

        That is its own where only one node reads it, since layers are called after weights; a new
        one, with `suffix`, where several do.
        """
        if sum(name in node.input for node in self.graph.node) > 1:
            return self.constant(value, f"{name}.{suffix}")
        self.constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def emit(self, node: Any, inputs: Sequence[str], output: str, **changed: Any) -> None:
        """Write a node like `node`, with other inputs, one output and changed attributes."""
        attributes = attributes_of(node) | changed
        made = helper.make_node(node.op_type, list(inputs), [output], node.name, **attributes)
        self.nodes.append(made)

    def reshape(self, source: str, output: str, shape: Sequence[int], name: str = "") -> None:
        """Write a Reshape, which is called `name`."""
        target = self.constant(np.asarray(shape, np.int64), f"{output}.shape")
        self.nodes.append(helper.make_node("Reshape", [source, target], [output], name))
