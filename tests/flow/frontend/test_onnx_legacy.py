"""Models of operator sets 1 to 6, as models of operator set 7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.importer import import_model
from flow.frontend.onnx_legacy import modernize
from flow.results.evaluate import OnnxRuntime
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save, weights
from vta_config.errors import UnsupportedModelError

IMAGE = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)


def modern(
    nodes: list[onnx.NodeProto], tensors: dict[str, tuple[int, ...]], shape: tuple[int, ...]
) -> onnx.GraphProto:
    """Return the graph of an old model that reads `x`, of a shape, and has tensors of zeros."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = weights(**{name: np.zeros(dims) for name, dims in tensors.items()})
    graph = helper.make_graph(nodes, "old", inputs, [output], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 1)], ir_version=3)
    modernize(proto, 7)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 7)]
    return proto.graph


def node(op: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, ["y"], "n", **attributes)


@pytest.mark.parametrize(
    ("axis", "dims", "shape"),
    [
        (1, (3,), [0, 1, 1]),  # a bias of channels: kept, then one row and one column
        (-3, (3,), [0, 1, 1]),
        (2, (4, 5), [0, 0]),
        (0, (2,), [0, 1, 1, 1]),
    ],
)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
def test_operands_are_aligned_by_a_reshape(
    op: str, axis: int, dims: tuple[int, ...], shape: list[int]
) -> None:
    old = node(op, ["x", "b"], broadcast=1, axis=axis)
    graph = modern([old], {"b": dims}, (2, 3, 4, 5))
    reshape, aligned = graph.node
    assert reshape.op_type == "Reshape" and reshape.input[0] == "b"
    (constant,) = (t for t in graph.initializer if t.name == reshape.input[1])
    assert numpy_helper.to_array(constant).tolist() == shape
    assert list(aligned.input) == ["x", reshape.output[0]] and not aligned.attribute
    assert (aligned.op_type, aligned.name, list(aligned.output)) == (op, "n", ["y"])


def test_operands_aligned_from_the_right_stay() -> None:
    (added,) = modern([node("Add", ["x", "b"], broadcast=1)], {"b": (5,)}, (2, 3, 4, 5)).node
    assert list(added.input) == ["x", "b"] and not added.attribute


def test_the_shape_of_a_reshape_becomes_a_tensor() -> None:
    graph = modern([node("Reshape", ["x"], shape=[0, -1])], {}, (2, 3, 4, 5))
    (reshape,) = graph.node
    (constant,) = graph.initializer
    assert list(reshape.input) == ["x", constant.name] and not reshape.attribute
    assert numpy_helper.to_array(constant).tolist() == [0, -1]


def test_new_names_are_nobodys() -> None:
    graph = modern([node("Reshape", ["x"], shape=[6])], {"0.shape": (1,), "0.shape_": (1,)}, (2, 3))
    assert graph.node[0].input[1] == "0.shape__"


@pytest.mark.parametrize(
    ("op", "attributes", "kept"),
    [
        ("BatchNormalization", {"is_test": 1, "spatial": 1, "epsilon": 1e-3}, ["epsilon"]),
        ("BatchNormalization", {"is_test": 0}, ["is_test"]),  # left for the checker to refuse
        ("BatchNormalization", {"spatial": 0}, ["spatial"]),
        ("Dropout", {"is_test": 1, "ratio": 0.5}, ["ratio"]),
        ("Gemm", {"broadcast": 1, "transB": 1}, ["transB"]),
        ("Relu", {"consumed_inputs": [0]}, []),
    ],
)
def test_attributes_that_say_nothing_are_forgotten(
    op: str, attributes: dict[str, Any], kept: list[str]
) -> None:
    (new,) = modern([node(op, ["x"], **attributes)], {}, (2, 3)).node
    assert [a.name for a in new.attribute] == kept


def test_ranks_follow_what_nodes_make() -> None:
    """A bias of a row: `x` has four dimensions, what Flatten makes of it two."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Add", ["f", "b"], ["y"], broadcast=1, axis=0),
    ]
    graph = modern(nodes, {"b": (2,)}, (2, 3, 4, 5))
    (constant,) = (t for t in graph.initializer if t.name == graph.node[1].input[1])
    assert numpy_helper.to_array(constant).tolist() == [0, 1]


def first_operator_set(*, typed: bool) -> onnx.ModelProto:
    """Return a network of operator set 1; not `typed`: of IR version 1, which says neither."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "b"], ["s"], broadcast=1, axis=1),
        helper.make_node("BatchNormalization", ["s", "g", "b", "b", "g"], ["n"], is_test=1,
                         spatial=1, consumed_inputs=[0, 0, 0, 1, 1]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Dropout", ["r"], ["d"], is_test=1),
        helper.make_node("Add", ["d", "k"], ["e"], broadcast=1),
        helper.make_node("GlobalAveragePool", ["e"], ["p"]),
        helper.make_node("Reshape", ["p"], ["f"], shape=[1, 4]),
        helper.make_node("Gemm", ["f", "fw", "fb"], ["y"], transB=1, broadcast=1),
    ]  # fmt: skip
    tensors = weights(
        w=rng.normal(size=(4, 3, 3, 3)),
        b=rng.normal(size=4),
        g=rng.uniform(1, 2, size=4),
        k=rng.normal(size=(8, 8)),
        fw=rng.normal(size=(5, 4)),
        fb=rng.normal(size=5),
    )
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])]
    inputs += [
        helper.make_tensor_value_info(t.name, TensorProto.FLOAT, list(t.dims)) for t in tensors
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])
    graph = helper.make_graph(nodes, "old", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 1)], ir_version=3)
    if not typed:
        model.ir_version = 1
        del model.opset_import[:]
        for node in graph.node:
            for attribute in node.attribute:
                attribute.ClearField("type")
        model.graph.CopyFrom(graph)
    return model


@pytest.mark.parametrize("typed", [True, False])
def test_the_first_operator_set(tmp_path: Path, typed: bool) -> None:
    old = first_operator_set(typed=typed)
    tensors = {t.name: numpy_helper.to_array(t) for t in old.graph.initializer}
    model = import_model(save(old, tmp_path / "old.onnx"))
    (ours,) = HostModule(model.mod)(IMAGE)
    # By hand: what the operators meant then.
    padded = np.pad(IMAGE[0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    conv = np.einsum("chwij,ocij->ohw", windows, tensors["w"])
    g, b = (tensors[k].reshape(-1, 1, 1).astype(np.float64) for k in "gb")
    normal = g * (conv + b - b) / np.sqrt(g + 1e-5) + b
    flat = (np.maximum(normal, 0) + tensors["k"]).mean(axis=(1, 2))
    np.testing.assert_allclose(ours[0], tensors["fw"] @ flat + tensors["fb"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours[0], OnnxRuntime(model.proto)(IMAGE), rtol=1e-4, atol=1e-4)


def test_what_old_operators_said_otherwise_is_refused(tmp_path: Path) -> None:
    old = first_operator_set(typed=True)
    old.graph.node[2].attribute[-1].CopyFrom(helper.make_attribute("is_test", 0))
    del old.graph.node[2].attribute[:-1]
    with pytest.raises(UnsupportedModelError, match=r"must be a complete ONNX file, got .*is_test"):
        import_model(save(old, tmp_path / "old.onnx"))
