"""ONNX Runtime as the judge: any tensor, no optimizations, one line of what it says."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.onnx_session import OnnxSession, reason
from tests.flow.onnx_models import tiny_model

X = np.float32([[1, -2, 3]])


def model(op: str = "Relu") -> object:
    """Return y = op(-x) + 1."""
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node(op, ["n"], ["r"]),
        helper.make_node("Add", ["r", "one"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.float32([1]), "one")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_any_tensor_is_returned_in_the_order_asked_for() -> None:
    session = OnnxSession(model(), ["r", "n", "y"])
    values = session.run(["y", "n", "r"], {"x": X})
    assert [v.tolist() for v in values] == [[[1, 3, 1]], [[-1, 2, -3]], [[0, 2, 0]]]
    assert session.run([], {"x": X}) == []


def test_the_model_is_as_before() -> None:
    proto = tiny_model()
    before = proto.SerializeToString()
    OnnxSession(proto, ["c", "r", "logits"])
    assert proto.SerializeToString() == before
    with pytest.raises(Exception, match="nobody"):
        OnnxSession(proto, ["nobody"])
    assert proto.SerializeToString() == before


def test_what_it_says_in_one_line() -> None:
    with pytest.raises(Exception) as caught:  # of many kinds
        OnnxSession(model("NoSuchOperator"))
    text = reason(caught.value)
    assert "NoSuchOperator" in text and "\n" not in text and not text.endswith(".")
    assert reason(ValueError("[Error] : 1 : Status Message:  a\n b.\n")) == "a b"
    assert reason(ValueError()) == "ValueError"
