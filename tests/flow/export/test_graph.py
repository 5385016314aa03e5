"""ONNX graphs that grow node by node."""

from __future__ import annotations

import numpy as np
import onnx

from flow.export.graph import GraphWriter
from tests.flow.qdq_models import session


def test_a_graph_has_what_its_results_need() -> None:
    graph = GraphWriter()
    x = graph.fresh("x")
    one = graph.number(1.0, np.float32)
    assert graph.number(1.0, np.float32, "again") == one  # numbers are shared
    assert graph.number(1, np.int8) != one
    graph.node("Mul", [x, one], "unused")
    first = graph.node("Add", [x, one], "y")
    second = graph.node("Add", [first, graph.tensor(np.ones((1, 2), np.float32), "y")], "y")
    assert len({x, one, first, second}) == 4
    model = graph.model([(x, (1, 2))], [(second, "result", (1, 2))], "net")
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Add", "Add", "Identity"]
    assert len(model.graph.initializer) == 2
    assert np.array_equal(session(model)(np.zeros((1, 2), np.float32)), [[2, 2]])


def test_several_results() -> None:
    graph = GraphWriter()
    x = graph.fresh("x")
    left, right = graph.nodes("Split", [x], ["part", "part"], axis=1)
    assert left != right
    model = graph.model([(x, (1, 4))], [(left, "a", (1, 2)), (right, "b", (1, 2))], "net")
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.output] == ["a", "b"]
