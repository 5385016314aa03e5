"""Operators in another form: the results stay ONNX Runtime's, and VTA runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from flow.data.datasets import random_images
from flow.frontend.importer import import_model
from flow.frontend.onnx_shapes import infer_shapes
from flow.frontend.simplify import constants_of, simplify
from flow.pipeline import Pipeline
from flow.results.evaluate import OnnxRuntime
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save
from vta_config import VTAConfig

SHAPE = (1, 3, 6, 5)
#: Inputs of a node that are constants.
Given = dict[str, Any]


def model(
    op: str, inputs: Sequence[str], given: Given, *, opset: int = 13, **attributes: Any
) -> onnx.ModelProto:
    """Return x -> Conv -> Relu (a); x -> Conv (b); one node; and a Conv behind it, on maps."""
    rng = np.random.default_rng(3)
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in given.items()]
    nodes = []
    for name in "ab":
        weight = rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
        tensors.append(numpy_helper.from_array(weight, f"{name}.weight"))
        made = "a.conv" if name == "a" else name
        nodes.append(helper.make_node("Conv", ["x", f"{name}.weight"], [made], pads=[1] * 4))
    nodes.append(helper.make_node("Relu", ["a.conv"], ["a"]))
    nodes.append(helper.make_node("Flatten", ["a"], ["flat"]))
    nodes.append(helper.make_node(op, inputs, ["y"], name="extra", **attributes))
    read = {*inputs} | ({"a"} if "flat" in inputs else set())
    live = read | ({"a.conv"} if "a" in read else set()) | {"y"}
    nodes = [node for node in nodes if node.output[0] in live]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, SHAPE)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "form", [x], [y], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(proto)


def ints(*values: int) -> Any:
    return np.asarray(values, np.int64)


def weight(*shape: int) -> Any:
    return np.random.default_rng(5).normal(0, 0.2, shape).astype(np.float32)


FORMS: dict[str, Callable[[], onnx.ModelProto]] = {
    "Gemm, scaled": lambda: model(
        "Gemm",
        ["flat", "fc.weight", "c"],
        {"fc.weight": weight(7, 120), "c": weight(7)},
        transB=1,
        alpha=0.5,
        beta=2.0,
    ),
    "Gemm, alpha": lambda: model(
        "Gemm", ["flat", "w"], {"w": weight(120, 7)}, alpha=-0.25, beta=3.0
    ),
    "MatMul, a stack of one": lambda: model("MatMul", ["flat", "w"], {"w": weight(1, 120, 7)}),
    "Mean": lambda: model("Mean", ["a", "b", "a"], {}),
    "Mean of one": lambda: model("Mean", ["a"], {}),
    "ReduceSum": lambda: model("ReduceSum", ["a", "axes"], {"axes": ints(-1, 2)}),
    "ReduceSum, flat": lambda: model("ReduceSum", ["a", "axes"], {"axes": ints(2, 3)}, keepdims=0),
    "ReduceSum, channels": lambda: model("ReduceSum", ["a", "axes"], {"axes": ints(1)}),
    "ReduceMean, channels": lambda: model("ReduceMean", ["a"], {}, axes=[-3]),
    "ReduceMean, rows": lambda: model("ReduceMean", ["a"], {}, axes=[2], keepdims=0),
    "ReduceMean 18, columns": lambda: model(
        "ReduceMean", ["a", "axes"], {"axes": ints(-1)}, opset=18, keepdims=0
    ),
    "Tile": lambda: model("Tile", ["a", "times"], {"times": ints(1, 2, 1, 3)}),
    "Tile of one": lambda: model("Tile", ["a", "times"], {"times": ints(1, 1, 1, 1)}),
    "Pad, cut": lambda: model("Pad", ["a", "pads"], {"pads": ints(0, 0, -1, -2, 0, 0, 0, -1)}),
    "Pad, cut and padded": lambda: model(
        "Pad", ["a", "pads"], {"pads": ints(0, -1, -1, 2, 0, 0, 1, -1)}
    ),
    "Pad, axes": lambda: model(
        "Pad",
        ["a", "pads", "", "axes"],
        {"pads": ints(1, 2, 0, 1), "axes": ints(-1, 2)},
        opset=18,
        mode="reflect",
    ),
    "Pad, a number": lambda: model(
        "Pad",
        ["a", "pads", "v"],
        {"pads": ints(0, 0, 1, 2, 0, 0, 0, 1), "v": np.float32(0.5)},
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_results_stay_and_vta_runs_them(name: str, tmp_path: Path) -> None:
    proto = FORMS[name]()
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    imported = import_model(save(proto, tmp_path / "m.onnx"))
    (ours,) = HostModule(imported.mod)(image)
    expected = OnnxRuntime(imported.proto)(image)
    np.testing.assert_allclose(ours.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)
    pipeline = Pipeline(imported, VTAConfig.load("default"))
    pipeline.calibrate(random_images(SHAPE, 2))
    compiled = pipeline.compile(pipeline.quantize("profiled_fused"))
    assert compiled.host.fallbacks == ()
    assert compiled.programs


STAY: dict[str, Callable[[], onnx.ModelProto]] = {
    "a Gemm without factors": lambda: model("Gemm", ["flat", "w"], {"w": weight(120, 7)}),
    "a Gemm of what is computed": lambda: model("Gemm", ["flat", "flat"], {}, transA=1, alpha=0.5),
    "a sum of columns": lambda: model("ReduceSum", ["a", "axes"], {"axes": ints(3)}),
    "a Tile of very many": lambda: model("Tile", ["a", "times"], {"times": ints(1, 1, 65, 1)}),
    "a mean of vectors": lambda: model("ReduceMean", ["flat"], {}, axes=[1]),
    "a Pad of zeros": lambda: model("Pad", ["a", "pads"], {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)}),
    "an old Pad": lambda: model("Pad", ["a"], {}, opset=10, pads=[0, 0, -1, 0, 0, 0, 0, 0]),
}


@pytest.mark.parametrize("name", STAY)
def test_others_stay(name: str) -> None:
    proto = STAY[name]()
    (before,) = (node for node in proto.graph.node if node.name == "extra")
    (after,) = (node for node in simplify(proto).graph.node if node.name == "extra")
    assert after == before


@settings(max_examples=20)
@given(data=st.data())
def test_any_pad(data: st.DataObject) -> None:
    """Random numbers of rows, columns and channels, added or cut off: as ONNX Runtime has it."""
    widths = [0, *(data.draw(st.integers(1 - n // 2, 3)) for n in SHAPE[1:])]
    widths += [0, *(data.draw(st.integers(1 - n // 2, 3)) for n in SHAPE[1:])]
    proto = model("Pad", ["x", "pads"], {"pads": ints(*widths)})
    del proto.graph.node[:-1]
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    ours, theirs = (OnnxRuntime(m)(image) for m in (simplify(proto), proto))
    np.testing.assert_array_equal(ours, theirs)


def test_constants_are_those_of_the_node() -> None:
    """A weight that another node reads, too, is not changed."""
    proto = model("Gemm", ["flat", "fc.weight"], {"fc.weight": weight(120, 7)}, alpha=0.5)
    made = simplify(proto)
    (node,) = (node for node in made.graph.node if node.op_type == "Gemm")
    found = numpy_helper.to_array(constants_of(made.graph)[node.input[1]])
    np.testing.assert_array_equal(found, 0.5 * weight(120, 7))
    assert node.input[1] == "fc.scaled.weight" and infer_shapes(made)["y"] == (1, 7)
