"""Operators whose form changed between the versions of ONNX are imported in each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flow.frontend.importer import import_model
from tests.flow.onnx_models import save

RNG = np.random.default_rng(0)


class _Builder:
    """Appends nodes whose numbers are attributes before some version, and inputs from it on."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def constant(self, value: Any) -> str:
        name = f"k{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, kind: str, source: str, since: int, numbers: dict[str, Any], **more: Any) -> str:
        inputs = [source]
        if self.opset >= since:
            inputs += [self.constant(value) for value in numbers.values()]
        else:
            more |= {k: v.tolist() if hasattr(v, "tolist") else v for k, v in numbers.items()}
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], f"n{output}", **more))
        return output

    def pair(self, kind: str, *sources: str, **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, sources, [output], f"n{output}", **attributes))
        return output

    def enlarge(self, source: str) -> str:
        scales = np.asarray([1, 1, 2, 2], np.float32)
        if self.opset < 10:
            return self.add("Upsample", source, 9, {"scales": scales}, mode="nearest")
        if self.opset < 11:
            return self.add("Resize", source, 10, {"scales": scales}, mode="nearest")
        form = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.pair("Resize", source, "", self.constant(scales), mode="nearest", **form)


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 14, 17, 18, 19, 21, 22, 24])
def test_a_network_of_any_version(tmp_path: Path, opset: int) -> None:
    build = _Builder(opset)
    pads = np.asarray([0, 0, 1, 1, 0, 0, 1, 1])
    weight = build.constant(RNG.normal(size=(8, 3, 3, 3)).astype(np.float32))
    x = build.pair("Conv", build.add("Pad", "x", 11, {"pads": pads}), weight)
    x = build.add("Clip", x, 11, {"min": np.float32(0), "max": np.float32(6)})
    numbers = {"starts": np.asarray([0]), "ends": np.asarray([4]), "axes": np.asarray([1])}
    x = build.pair("Concat", x, build.add("Slice", x, 10, numbers), axis=1)
    x = build.enlarge(build.pair("Dropout", x))
    x = build.add("ReduceMean", x, 18, {"axes": np.asarray([2, 3])}, keepdims=1)
    x = build.add("Squeeze", x, 13, {"axes": np.asarray([2, 3])})
    x = build.add("Squeeze", build.add("Unsqueeze", x, 13, {"axes": np.asarray([2])}), 13,
                  {"axes": np.asarray([2])})  # fmt: skip
    x = build.pair("MatMul", x, build.constant(RNG.normal(size=(12, 5)).astype(np.float32)))
    total = build.add("ReduceSum", x, 13, {"axes": np.asarray([1])}, keepdims=1)
    x = build.pair("Softmax", build.pair("Div", x, total), axis=1)
    graph = helper.make_graph(
        build.nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(x, 1, [1, 5])],
        build.tensors,
    )
    opsets = [helper.make_opsetid("", opset)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8 if opset < 22 else 10)
    assert import_model(save(proto, tmp_path / "m.onnx")).classes == 5
