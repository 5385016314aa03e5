"""What rewrites of an ONNX graph share: reading nodes and replacing them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flow.frontend.onnx_nodes import (
    GraphRewriter,
    attributes_of,
    integers_of,
    live_nodes,
    set_nodes,
)

CHAIN = (
    helper.make_node("Relu", ["x"], ["a"]),
    helper.make_node("Abs", ["x"], ["dead"]),
    helper.make_node("Add", ["a", "w"], ["y"]),
)


def graph(*nodes: onnx.NodeProto, **constants: Any) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    return helper.make_graph(list(nodes or CHAIN), "g", [], [], tensors)


@pytest.mark.parametrize(
    ("node", "found"),
    [
        (helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3]), [2, 3]),
        (helper.make_node("ReduceMean", ["x", "known"], ["y"]), [1, -1]),
        (helper.make_node("ReduceMean", ["x", "computed"], ["y"]), None),
        (helper.make_node("ReduceMean", ["x", ""], ["y"]), None),
        (helper.make_node("ReduceMean", ["x"], ["y"]), None),
    ],
)
def test_integers_are_attributes_or_inputs(node: onnx.NodeProto, found: list[int] | None) -> None:
    constants = {"known": numpy_helper.from_array(np.asarray([1, -1]), "known")}
    assert integers_of(node, "axes", constants) == found


def test_attributes() -> None:
    node = helper.make_node("Pad", ["x"], ["y"], mode="edge", pads=[0, 1], value=0.5)
    assert attributes_of(node) == {"mode": b"edge", "pads": [0, 1], "value": 0.5}


def test_nodes_that_nobody_needs_go() -> None:
    assert [n.op_type for n in live_nodes(CHAIN, ["y"])] == ["Relu", "Add"]
    made = graph()
    set_nodes(made, live_nodes(made.node, ["y"]))  # its own nodes
    assert [n.op_type for n in made.node] == ["Relu", "Add"]


def test_names_of_constants_are_new_unless_one_node_reads_them() -> None:
    made = graph(*CHAIN, helper.make_node("Mul", ["y", "v"], ["z"]), w=1.0, v=2.0)
    made.node[1].input[0] = "w"
    writer = GraphRewriter(made, {"taken": (1,)})
    assert writer.constant([1, 2], "taken") == "taken_"
    assert writer.constant([1, 2], "taken") == "taken__"
    assert writer.replaced("w", np.zeros(2), "moved") == "w.moved"
    assert writer.replaced("v", np.zeros(3), "moved") == "v"
    shapes = {tensor.name: tuple(tensor.dims) for tensor in made.initializer}
    assert shapes == {"w": (), "v": (3,), "taken_": (2,), "taken__": (2,), "w.moved": (2,)}


def test_nodes_are_written_in_their_place() -> None:
    made = graph(w=1.0)
    writer = GraphRewriter(made, {})
    node = helper.make_node("Concat", ["a", "b"], ["y"], "joined", axis=1)
    writer.emit(node, ["c"], "z", axis=2)
    writer.reshape("z", "y", (1, 4), "flat")
    writer.finish()
    assert [(n.op_type, n.name, [*n.input], [*n.output]) for n in made.node] == [
        ("Concat", "joined", ["c"], ["z"]),
        ("Reshape", "flat", ["z", "y.shape"], ["y"]),
    ]
    assert attributes_of(made.node[0]) == {"axis": 2}
    np.testing.assert_array_equal(numpy_helper.to_array(made.initializer[1]), [1, 4])
