"""Pools of whole maps, of rows and columns, and with windows beyond the end: like ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flow.frontend.importer import import_model
from flow.frontend.simplify import simplify
from flow.results.evaluate import OnnxRuntime
from relay_passes.graph import op_name, read_graph
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save, tiny_model


def operators(model: onnx.ModelProto, path: Path, size: tuple[int, int] = (8, 8)) -> list[str]:
    """Import a model, compare it with ONNX Runtime; return its pools and other operators."""
    image = np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32)
    imported = import_model(save(model, path / "m.onnx"))
    (ours,) = HostModule(imported.mod)(image)
    np.testing.assert_allclose(ours[0], OnnxRuntime(imported.proto)(image), rtol=1e-5, atol=1e-5)
    return [name for b in read_graph(imported.mod).bindings if (name := op_name(b.value))]


def with_node(
    op: str, *inputs: str, opset: int = 13, size: tuple[int, int] = (8, 8), **attributes: Any
) -> onnx.ModelProto:
    node = helper.make_node(op, ["r", *inputs], ["e"], name="extra", **attributes)
    return tiny_model(extra=(node,), opset=opset, shape=(1, 3, *size))


@pytest.mark.parametrize(
    ("size", "pools"), [((1, 1), 1), ((8, 7), 1), ((9, 1), 2), ((13, 70), 3), ((64, 64), 2)]
)
def test_a_global_maximum_is_max_pools(size: tuple[int, int], pools: int, tmp_path: Path) -> None:
    found = operators(with_node("GlobalMaxPool", size=size), tmp_path, size)
    assert found.count("nn.max_pool2d") == pools and "max" not in found


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_maximum_over_rows_and_columns(opset: int, keepdims: int, tmp_path: Path) -> None:
    model = tiny_model(opset=opset, shape=(1, 3, 9, 8))
    del model.graph.node[2 : 4 - keepdims]  # global average pool, and flatten unless needed
    inputs, attributes = ["r"], {"axes": [-1, 2]}
    if opset >= 18:
        inputs, attributes = ["r", "axes"], {}
        model.graph.initializer.append(numpy_helper.from_array(np.asarray([-1, 2]), "axes"))
    output = "p" if keepdims else "f"
    node = helper.make_node("ReduceMax", inputs, [output], keepdims=keepdims, **attributes)
    model.graph.node.insert(2, node)
    found = operators(model, tmp_path, (9, 8))
    assert found.count("nn.max_pool2d") == 2


@pytest.mark.parametrize(
    ("op", "axis", "pool"),
    [
        ("ReduceMean", 2, "nn.avg_pool2d"),
        ("ReduceMean", -1, "nn.avg_pool2d"),
        ("ReduceMax", -2, "nn.max_pool2d"),
        ("ReduceMax", 3, "nn.max_pool2d"),
    ],
)
def test_along_one_axis(op: str, axis: int, pool: str, tmp_path: Path) -> None:
    assert pool in operators(with_node(op, axes=[axis], size=(5, 6)), tmp_path, (5, 6))


@pytest.mark.parametrize("attributes", [{"axes": [1]}, {"axes": [1, 2]}, {}])
def test_other_reductions_stay(attributes: dict[str, Any]) -> None:
    model = simplify(with_node("ReduceMax", **attributes))
    assert "ReduceMax" in [node.op_type for node in model.graph.node]


def test_one_axis_that_goes_is_a_pool_and_a_reshape() -> None:
    model = simplify(with_node("ReduceMean", axes=[2], keepdims=0))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds[2:4] == ["AveragePool", "Reshape"]
    assert "ReduceMean" not in kinds


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize(
    ("kernel", "strides", "pads"),
    [
        ([3, 3], [2, 2], [0, 0, 0, 0]),
        ([3, 3], [2, 2], [1, 1, 1, 1]),
        ([3, 2], [2, 3], [1, 0, 1, 1]),
        ([2, 2], [2, 2], [0, 0, 0, 0]),
    ],
)
@pytest.mark.parametrize("opset", [10, 13, 19])
def test_averages_with_ceil_mode(
    opset: int,
    kernel: list[int],
    strides: list[int],
    pads: list[int],
    counted: int,
    tmp_path: Path,
) -> None:
    node = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    model = with_node("AveragePool", opset=opset, ceil_mode=1, count_include_pad=counted, **node)
    assert "nn.avg_pool2d" in operators(model, tmp_path)


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_averages_of_the_same_size(mode: str, counted: int, tmp_path: Path) -> None:
    model = with_node("AveragePool", kernel_shape=[3, 4], auto_pad=mode, count_include_pad=counted)
    assert "nn.avg_pool2d" in operators(model, tmp_path)
