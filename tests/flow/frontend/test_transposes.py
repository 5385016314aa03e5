"""Transposes move through a network and cancel; what it computes stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flow.frontend.onnx_session import OnnxSession
from flow.frontend.onnx_shapes import infer_shapes
from flow.frontend.transposes import fold_transposes

TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
SHAPE = (1, 3, 4, 5)


def node(kind: str, *names: str, **attributes: Any) -> onnx.NodeProto:
    *inputs, output = names
    return helper.make_node(kind, inputs, [output], f"n_{output}", **attributes)


def model(
    nodes: Sequence[onnx.NodeProto], outputs: Sequence[str] = ("y",), **constants: Any
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", 1, list(SHAPE))],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def folded(proto: onnx.ModelProto) -> list[str]:
    """Fold; check that all outputs are the same; return the operators that are left."""
    outputs = [value.name for value in proto.graph.output]
    image = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    expected = OnnxSession(proto).run(outputs, {"x": image})
    fold_transposes(proto, infer_shapes(proto), 13)
    for ours, theirs in zip(OnnxSession(proto).run(outputs, {"x": image}), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    return [n.op_type for n in proto.graph.node]


RNG = np.random.default_rng(0)
LAST = RNG.normal(size=3).astype(np.float32)
BETWEEN = {
    "nothing": ([], {}),
    "unary": ([node("Relu", "t", "u"), node("Clip", "u", "lo", "m")], {"lo": np.float32(0.1)}),
    "constant": ([node("Add", "t", "c", "m")], {"c": LAST}),
    "scalar": ([node("Mul", "c", "t", "m")], {"c": np.float32(2)}),
    "both": ([node("Relu", "t", "u"), node("Add", "t", "u", "m")], {}),
    "full": ([node("Sub", "t", "c", "m")], {"c": RNG.normal(size=(1, 4, 5, 3)).astype("f4")}),
    "pad": ([node("Pad", "t", "p", "m")], {"p": [0, 1, 2, 0, 0, 3, 4, 0]}),
    "concat": ([node("Concat", "t", "t", "m", axis=3)], {}),
    "softmax": ([node("Softmax", "t", "m", axis=-1)], {}),
    "mean": ([node("ReduceMean", "t", "m", axes=[1, 2], keepdims=1)], {}),
    "sum": ([node("ReduceSum", "t", "a", "m", keepdims=1)], {"a": [-1]}),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_transposes_cancel(name: str) -> None:
    between, constants = BETWEEN[name]
    last = "m" if between else "t"
    nodes = [node("Transpose", "x", "t", perm=TO_NHWC), *between]
    nodes += [node("Transpose", last, "b", perm=TO_NCHW), node("Relu", "b", "y")]
    left = folded(model(nodes, **constants))
    assert "Transpose" not in left and left[-1] == "Relu"


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
def test_weights_behind_a_flatten_are_put_in_order(kind: str) -> None:
    nodes = [
        node("Transpose", "x", "t", perm=TO_NHWC),
        node("Reshape", "t", "s", "f"),
        node(kind, "f", "w", "y", **({"transB": 1} if kind == "Gemm" else {})),
    ]
    weight = RNG.normal(size=(60, 7)).astype(np.float32)
    weight = weight.T.copy() if kind == "Gemm" else weight
    proto = model(nodes, s=[1, -1], w=weight)
    assert folded(proto) == ["Reshape", kind]
    assert "w" in proto.graph.node[-1].input  # the layer's name


def test_a_flattened_tensor_that_others_read_keeps_its_order() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=TO_NHWC),
        node("Flatten", "t", "f"),
        node("MatMul", "f", "w", "y"),
        node("Relu", "f", "z"),
    ]
    proto = model(nodes, ("y", "z"), w=RNG.normal(size=(60, 7)).astype(np.float32))
    assert folded(proto)[0] == "Transpose"


def test_a_flatten_of_single_pixels_needs_no_order() -> None:
    nodes = [
        node("GlobalAveragePool", "x", "g"),
        node("Transpose", "g", "t", perm=TO_NHWC),
        node("Flatten", "t", "f"),
        node("Relu", "f", "y"),
    ]
    assert folded(model(nodes)) == ["GlobalAveragePool", "Reshape", "Relu"]


def test_a_mean_that_drops_dimensions() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=TO_NHWC),
        node("ReduceMean", "t", "m", axes=[1, 2], keepdims=0),
        node("Relu", "m", "y"),
    ]
    assert folded(model(nodes))[0] == "ReduceMean"
    nodes[1] = node("ReduceMean", "t", "m", axes=[2], keepdims=0)  # [1, H, C] from [1, C, H]
    assert folded(model(nodes)).count("Transpose") == 1


def test_a_product_along_channels_is_a_convolution() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=TO_NHWC),
        node("MatMul", "t", "w", "m"),
        node("Add", "m", "c", "n"),
        node("Transpose", "n", "b", perm=TO_NCHW),
        node("Relu", "b", "y"),
    ]
    weight = RNG.normal(size=(3, 6)).astype(np.float32)
    left = folded(model(nodes, w=weight, c=RNG.normal(size=6).astype(np.float32)))
    assert left[0] == "Conv" and "Transpose" not in left


def test_outputs_and_unknown_operators_get_their_own_order() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=TO_NHWC),
        node("Relu", "t", "y"),
        node("CumSum", "t", "axis", "z"),
        node("Transpose", "x", "same", perm=[0, 1, 2, 3]),
        node("Relu", "same", "v"),
    ]
    left = folded(model(nodes, ("y", "z", "t", "v"), axis=np.asarray(3)))
    assert left.count("Transpose") <= 3


def test_without_transposes_nothing_changes() -> None:
    proto = model([node("Relu", "x", "y")])
    before = proto.SerializeToString()
    fold_transposes(proto, infer_shapes(proto), 13)
    assert proto.SerializeToString() == before


def test_transposed_outputs_come_in_the_graphs_order() -> None:
    """Whatever the order of a set of names is, which differs from run to run."""
    outputs = [f"out{i}" for i in range(8)]
    nodes = [node("Transpose", "x", name, perm=[0, 2, 3, 1]) for name in outputs]
    proto = model(nodes[::-1], outputs)
    fold_transposes(proto, infer_shapes(proto), 13)
    assert [n.output[0] for n in proto.graph.node] == outputs
