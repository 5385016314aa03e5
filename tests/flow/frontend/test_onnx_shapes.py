"""flow.frontend.onnx_shapes: what constants are, what a picture costs, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.importer import ImportedModel, import_model
from flow.frontend.onnx_file import Limits
from flow.frontend.onnx_shapes import check_costs, fold_constants, infer_shapes, multiplications
from flow.results.evaluate import OnnxRuntime
from relay_passes.graph import op_name, read_graph
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save, tiny_model, weights
from vta_config.errors import UnsupportedModelError

SHAPE = (1, 3, 8, 8)
IMAGE = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def with_nodes(*nodes: onnx.NodeProto, opset: int = 13, **tensors: Any) -> onnx.ModelProto:
    """Return the tiny model with nodes that lead from ``r`` to ``e``, and integer constants."""
    model = tiny_model(extra=nodes, shape=SHAPE, opset=opset)
    for name, value in tensors.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def imported(model: onnx.ModelProto, folder: Path) -> ImportedModel:
    """Import a model that must compute what ONNX Runtime does."""
    result = import_model(save(model, folder / "m.onnx"))
    (ours,) = HostModule(result.mod)(IMAGE)
    np.testing.assert_allclose(ours[0], OnnxRuntime(result.proto)(IMAGE), rtol=1e-4, atol=1e-4)
    return result


def operators(model: ImportedModel) -> list[str]:
    return [name for b in read_graph(model.mod).bindings if (name := op_name(b.value))]


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, f"{op}_{outputs[0]}", **attributes)


# ---- constants ----------------------------------------------------------------------------------
SPARSE = helper.make_sparse_tensor(
    helper.make_tensor("values", TensorProto.INT64, [3], [1, 4, 64]),
    helper.make_tensor("indices", TensorProto.INT64, [3], [0, 1, 2]),
    [3],
)


@pytest.mark.parametrize(
    "attributes",
    [
        {"value": numpy_helper.from_array(np.asarray([1, 4, 64]))},
        {"value_ints": [1, 4, 64]},
        {"sparse_value": SPARSE},
    ],
    ids=lambda attributes: next(iter(attributes)),
)
def test_a_shape_from_a_constant_of_any_form(tmp_path: Path, attributes: dict[str, Any]) -> None:
    model = with_nodes(
        helper.make_node("Constant", [], ["shape"], "constant", **attributes),
        node("Reshape", ["r", "shape"], ["flat"]),
        node("Reshape", ["flat", "back"], ["e"]),
        back=[1, 4, 8, 8],
    )
    assert "reshape" in operators(imported(model, tmp_path))


@pytest.mark.parametrize(
    "attributes", [{"value_float": 0.25}, {"value_floats": [0.25]}, {"value_int": 3}]
)
def test_a_bound_from_a_constant_of_any_form(tmp_path: Path, attributes: dict[str, Any]) -> None:
    nodes = [helper.make_node("Constant", [], ["high"], "constant", **attributes)]
    if "value_int" in attributes:
        nodes.append(helper.make_node("Cast", ["high"], ["float"], "cast", to=TensorProto.FLOAT))
    last = nodes[-1].output[0]
    nodes += [node("Min", ["r", last], ["e"])]
    assert "min" in operators(imported(with_nodes(*nodes), tmp_path))


def test_a_constant_without_a_value(tmp_path: Path) -> None:
    model = with_nodes(helper.make_node("Constant", [], ["e"], "empty"))
    with pytest.raises(
        UnsupportedModelError, match=r"node empty: must have a value, got a Constan"
    ):
        fold_constants(model, Limits(), "m")


def test_texts_are_constants_too() -> None:
    model = with_nodes(
        helper.make_node("Constant", [], ["a"], "one", value_string="text"),
        helper.make_node("Constant", [], ["b"], "two", value_strings=["a", "b"]),
    )
    folded = fold_constants(model, Limits(), "m")
    assert {"a", "b"} < {tensor.name for tensor in folded.graph.initializer}


def test_weights_that_are_computed(tmp_path: Path) -> None:
    """A convolution with weight normalization is a layer like others."""
    model = with_nodes(
        node("ReduceL2", ["square"], ["norm"], axes=[1, 2, 3], keepdims=1),
        node("Div", ["square", "norm"], ["normal"]),
        node("Conv", ["r", "normal"], ["e"], pads=[1, 1, 1, 1]),
    )
    model.graph.initializer.extend(
        weights(square=np.random.default_rng(0).normal(size=(4, 4, 3, 3)))
    )
    result = imported(model, tmp_path)
    assert result.conv_names == ("stem", "normal")
    assert {"divide", "sqrt"}.isdisjoint(operators(result))


def test_shapes_that_are_computed(tmp_path: Path) -> None:
    """A channel shuffle that asks for its own batch, as PyTorch exports it."""
    model = with_nodes(
        node("Shape", ["r"], ["shape"]),
        node("Gather", ["shape", "zero"], ["batch"]),
        node("Unsqueeze", ["batch", "axis"], ["batch1"]),
        node("Concat", ["batch1", "rest"], ["grouped"], axis=0),
        node("Reshape", ["r", "grouped"], ["r1"]),
        node("Transpose", ["r1"], ["r2"], perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["r2", "shape"], ["e"]),
        zero=np.int64(0),
        axis=[0],
        rest=[2, 2, 8, 8],
    )
    assert operators(imported(model, tmp_path))[2] == "take"


def test_half_of_the_channels_by_division(tmp_path: Path) -> None:
    """What torch.chunk becomes."""
    model = with_nodes(
        node("Shape", ["r"], ["shape"], start=1, end=2),
        node("Add", ["shape", "one"], ["more"]),
        node("Div", ["more", "two"], ["half"]),
        node("Slice", ["r", "zero", "half", "one"], ["s"]),
        node("Concat", ["s", "s"], ["e"], axis=1),
        opset=15,
        one=[1],
        two=[2],
        zero=[0],
    )
    assert "strided_slice" in operators(imported(model, tmp_path))


def test_pads_that_are_computed(tmp_path: Path) -> None:
    model = with_nodes(
        node("Concat", ["before", "after"], ["pads"], axis=0),
        node("Pad", ["r", "pads"], ["p1"]),
        node("Conv", ["p1", "square"], ["e"]),
        before=[0, 0, 1, 1],
        after=[0, 0, 1, 1],
    )
    model.graph.initializer.extend(weights(square=np.ones((4, 4, 3, 3))))
    assert "nn.pad" not in operators(imported(model, tmp_path))


def test_what_is_random_is_no_constant() -> None:
    model = with_nodes(
        node("RandomNormal", [], ["noise"], shape=[1, 4, 8, 8]), node("Add", ["r", "noise"], ["e"])
    )
    folded = fold_constants(model, Limits(), "m")
    assert "RandomNormal" in [n.op_type for n in folded.graph.node]


def test_constants_that_cannot_be_computed_stay() -> None:
    model = with_nodes(node("Gather", ["table", "index"], ["g"]), node("Add", ["r", "g"], ["e"]),
                       table=np.ones(3, np.float32), index=[7])  # fmt: skip
    folded = fold_constants(model, Limits(), "m")
    assert "Gather" in [n.op_type for n in folded.graph.node]


# ---- costs --------------------------------------------------------------------------------------
def test_a_constant_that_would_fill_the_memory(tmp_path: Path) -> None:
    model = with_nodes(node("Tile", ["one", "times"], ["t"]), node("Add", ["r", "t"], ["e"]),
                       one=np.ones(1, np.float32), times=[1 << 36])  # fmt: skip
    sentence = r"m node Tile_t: must take at most 268,435,456 bytes, got 274,877,906,944; use a sma"
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(save(model, tmp_path / "m.onnx"))


@pytest.mark.parametrize("size", [1 << 31, 100_000, 10_000])
def test_pictures_that_would_fill_the_memory(tmp_path: Path, size: int) -> None:
    model = tiny_model(shape=(1, 3, size, size))
    sentence = r"m input: must take at most 268,435,456 bytes, got [\w,]+; use a smaller model, or "
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(save(model, tmp_path / "m.onnx"))


def test_a_tensor_between_that_would_fill_the_memory(tmp_path: Path) -> None:
    model = with_nodes(node("Resize", ["r", "", "scales"], ["e"], mode="nearest"),
                       scales=np.asarray([1, 1, 5000, 5000], np.float32))  # fmt: skip
    sentence = r"m node Resize_e: must take at most 268,435,456 bytes, got 25,600,000,000; use"
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(save(model, tmp_path / "m.onnx"))


def test_multiplications_are_counted_and_bounded(tmp_path: Path) -> None:
    model = tiny_model(shape=SHAPE)
    shapes = infer_shapes(model)
    counts = {n.op_type: multiplications(n, shapes) for n in model.graph.node}
    assert counts == {"Conv": 4 * 64 * 27, "Relu": 0, "GlobalAveragePool": 0, "Flatten": 0,
                      "Gemm": 20}  # fmt: skip
    large = with_nodes(node("Conv", ["r", "large"], ["e"], pads=[49] * 4),
                       large=np.ones((4, 4, 99, 99), np.float32))  # fmt: skip
    sentence = r"m: must take at most 2,000,000 multiplications, got 10,043,156; use a smaller mod"
    with pytest.raises(UnsupportedModelError, match=sentence):
        check_costs(large, infer_shapes(large), Limits(factor=1e-5), "m")
    check_costs(large, infer_shapes(large), Limits(factor=1e-4), "m")


def test_transposed_and_dense_layers_are_counted() -> None:
    shapes = {"x": (1, 4, 8, 8), "w": (4, 2, 3, 3), "y": (1, 2, 10, 10), "a": (3, 7), "b": (7, 5),
              "ab": (3, 5)}  # fmt: skip
    assert multiplications(node("ConvTranspose", ["x", "w"], ["y"]), shapes) == 256 * 18
    assert multiplications(node("MatMul", ["a", "b"], ["ab"]), shapes) == 3 * 7 * 5
    assert multiplications(node("MatMul", ["a", "unknown"], ["ab"]), shapes) == 0
