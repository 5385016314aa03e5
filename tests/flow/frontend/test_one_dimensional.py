"""Networks on signals are networks on images of one row, with the same results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flow.frontend.importer import import_model
from flow.frontend.one_dimensional import as_images
from flow.frontend.onnx_session import OnnxSession
from flow.frontend.onnx_shapes import infer_shapes
from relay_passes.graph import op_name, read_graph
from tests.flow.onnx_models import save

RNG = np.random.default_rng(0)


def node(kind: str, *names: str, **attributes: Any) -> onnx.NodeProto:
    *inputs, output = names
    return helper.make_node(kind, inputs, [output], f"n_{output}", **attributes)


def model(nodes: Sequence[onnx.NodeProto], **constants: Any) -> onnx.ModelProto:
    tensors = {"w": RNG.normal(size=(6, 3, 5)), "v": RNG.normal(size=(6, 4, 2))}
    tensors |= {"b": RNG.normal(size=6), "s": RNG.uniform(0.5, 1, 6)} | constants
    read = {name for n in nodes for name in n.input}
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 20])],
        [onnx.ValueInfoProto(name="y")],
        [
            numpy_helper.from_array(
                np.asarray(v) if np.asarray(v).dtype.kind == "i" else np.asarray(v, np.float32), k
            )
            for k, v in tensors.items()
            if k in read
        ],
    )
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


CONV = node("Conv", "x", "w", "b", "c", pads=[2, 1], strides=[2], kernel_shape=[5])
CASES = {
    "conv": [node("Conv", "x", "w", "y", pads=[2, 1], strides=[2], dilations=[2])],
    "auto_pad": [node("Conv", "x", "w", "y", auto_pad="SAME_UPPER")],
    "norm": [CONV, node("BatchNormalization", "c", "s", "b", "b", "s", "y")],
    "pool": [
        CONV, node("Relu", "c", "r"), node("MaxPool", "r", "y", kernel_shape=[3], strides=[2]),
    ],
    "transposed": [CONV, node("ConvTranspose", "c", "v", "y", strides=[2], output_padding=[1])],
    "prelu": [CONV, node("PRelu", "c", "slope", "y")],
    "residual": [CONV, node("Relu", "c", "r"), node("Add", "r", "c", "y")],
    "late": [
        CONV, node("Conv", "x", "w", "d", pads=[2, 1], strides=[2]), node("Add", "c", "d", "y"),
    ],
    "concat channels": [CONV, node("Concat", "c", "c", "y", axis=1)],
    "concat length": [CONV, node("Concat", "c", "c", "y", axis=-1)],
    "global": [CONV, node("GlobalAveragePool", "c", "g"), node("Flatten", "g", "y")],
    "mean": [CONV, node("ReduceMean", "c", "y", axes=[2], keepdims=0)],
    "other mean": [CONV, node("ReduceMean", "c", "y", axes=[1], keepdims=1)],
    "reshape": [CONV, node("Reshape", "c", "shape", "y")],
    "transpose": [CONV, node("Transpose", "c", "y", perm=[0, 2, 1])],
    "input too": [CONV, node("MaxPool", "x", "p", kernel_shape=[2]), node("Relu", "p", "y")],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_results_are_the_same(name: str) -> None:
    slope = RNG.normal(size=(6, 1))
    proto = model(CASES[name], slope=slope, shape=np.asarray([2, -1]))
    signal = RNG.normal(size=(1, 3, 20)).astype(np.float32)
    (expected,) = OnnxSession(proto).run(["y"], {"x": signal})
    as_images(proto, infer_shapes(proto))
    (found,) = OnnxSession(proto).run(["y"], {"x": signal})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    shapes = infer_shapes(proto)
    for n in proto.graph.node:
        if n.op_type in ("Conv", "ConvTranspose", "MaxPool", "BatchNormalization", "PRelu"):
            assert len(shapes[n.input[0]]) == 4


def test_two_layers_with_the_same_weight() -> None:
    nodes = [
        node("Conv", "x", "w", "c"),
        node("Conv", "x", "w", "d"),
        node("Add", "c", "d", "y"),
    ]
    proto = model(nodes)
    signal = RNG.normal(size=(1, 3, 20)).astype(np.float32)
    (expected,) = OnnxSession(proto).run(["y"], {"x": signal})
    as_images(proto, infer_shapes(proto))
    (found,) = OnnxSession(proto).run(["y"], {"x": signal})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_weights_that_are_computed_stay(tmp_path: Path) -> None:
    nodes = [node("Relu", "w", "ww"), node("Conv", "x", "ww", "y")]
    proto = model(nodes)
    before = proto.SerializeToString()
    as_images(proto, infer_shapes(proto))
    assert proto.SerializeToString() == before


def test_layers_keep_their_names_and_no_reshape_is_between(tmp_path: Path) -> None:
    dense = RNG.normal(size=(6, 4))
    nodes = [
        CONV, node("Relu", "c", "r"), node("GlobalAveragePool", "r", "g"),
        node("Flatten", "g", "f"), node("MatMul", "f", "head.weight", "y"),
    ]  # fmt: skip
    found = import_model(save(model(nodes, **{"head.weight": dense}), tmp_path / "m.onnx"))
    kinds = [op_name(binding.value) for binding in read_graph(found.mod).bindings]
    assert kinds.index("nn.conv2d") - kinds.index("reshape") == 1
    assert found.input_shape == (1, 3, 20) and found.dense_names == ("head",)
