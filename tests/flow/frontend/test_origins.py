"""flow.frontend.origins: which ONNX node each Relax variable comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from flow.data.models import DIGITS_ONNX
from flow.frontend.importer import ImportedModel, import_model
from flow.frontend.origins import OnnxNode
from flow.pipeline import Pipeline
from relay_passes.graph import constant, op_name, read_graph
from tests.flow.onnx_models import save, tiny_model, weights
from vta_config.hardware import VTAConfig


def operators(model: ImportedModel) -> list[tuple[str, OnnxNode]]:
    """Each Relax operator and where it comes from, in order."""
    return [
        (op_name(b.value), model.origins[b.var.name])
        for b in read_graph(model.mod).bindings
        if op_name(b.value)
    ]


def test_every_variable_has_its_node(tmp_path: Path) -> None:
    model = import_model(save(tiny_model(), tmp_path / "m.onnx"))
    assert operators(model) == [
        ("nn.conv2d", OnnxNode("conv_node", "Conv", "c")),
        ("nn.relu", OnnxNode("relu", "Relu", "r")),
        ("mean", OnnxNode("pool", "GlobalAveragePool", "p")),
        ("reshape", OnnxNode("flat", "Flatten", "f")),
        ("permute_dims", OnnxNode("g", "Gemm", "")),
        ("matmul", OnnxNode("g", "Gemm", "")),
        ("add", OnnxNode("g", "Gemm", "logits")),
    ]
    assert model.origins["stem"].output == "c" and model.origins["head"].label == "g"


def test_origins_outlive_the_float_passes(default_config: VTAConfig) -> None:
    pipeline = Pipeline(import_model(DIGITS_ONNX), default_config)
    names = [b.var.name for b in read_graph(pipeline.folded).bindings]
    assert set(pipeline.origins) == set(names)
    found = {name: (node.name, node.operator) for name, node in pipeline.origins.items()}
    assert found["conv1.acc"] == found["conv1"] == ("conv1", "Conv")
    assert found["conv1.relu"] == ("relu", "Relu") and found["maxpool0"] == ("maxpool", "MaxPool")
    assert found["layer2.0.conv2.add"] == ("layer2.0.add", "Add")
    assert found["fc"] == ("fc", "Gemm")


def test_nodes_are_those_of_the_users_file(tmp_path: Path) -> None:
    """A Sum is imported as Adds, a ReduceMean as a pool; users know neither."""
    extra = (
        helper.make_node("Sum", ["r", "c", "c"], ["s"], "total"),
        helper.make_node("Clip", ["s", "lo", "hi"], ["k"], "limit"),
        helper.make_node("Dropout", ["k"], ["e"], "drop"),
    )
    proto = tiny_model(extra=extra)
    proto.graph.initializer.extend(weights(lo=np.float32(0), hi=np.float32(6)))
    pool = next(n for n in proto.graph.node if n.op_type == "GlobalAveragePool")
    pool.CopyFrom(helper.make_node("ReduceMean", ["e"], ["p"], "mean", axes=[2, 3]))
    model = import_model(save(proto, tmp_path / "m.onnx"))
    found = [(op, node.name, node.operator) for op, node in operators(model)]
    assert ("add", "total", "Sum") in found and ("clip", "limit", "Clip") in found
    assert ("mean", "mean", "ReduceMean") in found


def parallel(left: str, right: str) -> onnx.ModelProto:
    """Two convolutions of one input, added as `left` + `right`."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "first.weight"], ["a"], "first"),
        helper.make_node("Conv", ["x", "second.weight"], ["b"], "second"),
        helper.make_node("Add", [left, right], ["s"], "sum"),
        helper.make_node("GlobalAveragePool", ["s"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["y"], "flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "parallel",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        weights(
            first__weight=rng.normal(size=(2, 3, 1, 1)),
            second__weight=rng.normal(size=(2, 3, 1, 1)),
        ),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(("left", "right"), [("a", "b"), ("b", "a")])
def test_layers_of_parallel_branches_get_their_own_names(
    tmp_path: Path, left: str, right: str
) -> None:
    proto = parallel(left, right)
    model = import_model(save(proto, tmp_path / "m.onnx"))
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    found: dict[str, Any] = {
        b.var.name: constant(b.value.args[1])
        for b in read_graph(model.mod).bindings
        if op_name(b.value) == "nn.conv2d"
    }
    assert found.keys() == {"first", "second"}
    for name, weight in found.items():
        np.testing.assert_array_equal(weight, tensors[f"{name}.weight"])


def test_a_layer_may_be_called_as_a_variable_of_the_importer(tmp_path: Path) -> None:
    proto = tiny_model(weight="lv1.weight")
    model = import_model(save(proto, tmp_path / "m.onnx"))
    assert model.conv_names == ("lv1",)
    names = [b.var.name for b in read_graph(model.mod).bindings]
    assert len(set(names)) == len(names) and model.origins["lv1"].operator == "Conv"


def test_another_importer_of_tvm_leaves_no_origins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tvm.relax.frontend.onnx import onnx_frontend

    class Renamed(onnx_frontend.ONNXGraphImporter):
        """An importer whose builder has another name until it runs."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.builder = self.__dict__.pop("bb")

        def from_onnx(self, graph: Any, opset: int) -> Any:
            self.bb = self.builder
            return super().from_onnx(graph, opset)

    monkeypatch.setattr(onnx_frontend, "ONNXGraphImporter", Renamed)
    model = import_model(save(tiny_model(), tmp_path / "m.onnx"))
    assert model.origins == {} and model.conv_names == ("stem",)
    assert "stem" in [b.var.name for b in read_graph(model.mod).bindings]
