"""simplify.py: what ONNX says in several ways reaches the passes in one; results stay equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.importer import import_model
from flow.frontend.simplify import simplify
from flow.pipeline import Pipeline
from flow.results.evaluate import OnnxRuntime
from relay_passes.graph import op_name, read_graph
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save, tiny_model, weights
from vta_config import VTAConfig

IMAGE = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)


def operators(model: onnx.ModelProto, path: Path) -> list[str]:
    """Import `model`, compare it with ONNX Runtime, and return its operators in Relax."""
    imported = import_model(save(model, path / "m.onnx"))
    (ours,) = HostModule(imported.mod)(IMAGE)
    np.testing.assert_allclose(ours[0], OnnxRuntime(imported.proto)(IMAGE), rtol=1e-5, atol=1e-5)
    return [name for b in read_graph(imported.mod).bindings if (name := op_name(b.value))]


def with_node(op: str, *inputs: str, opset: int = 13, **attributes: Any) -> onnx.ModelProto:
    """Return the tiny model with a node behind its Relu."""
    node = helper.make_node(op, ["r", *inputs], ["e"], name="extra", **attributes)
    return tiny_model(extra=(node,), opset=opset, shape=IMAGE.shape)


def types(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in simplify(model).graph.node]


# ---- Dropout ------------------------------------------------------------------------------------
@pytest.mark.parametrize("opset", [9, 13])
def test_dropout_does_nothing(opset: int, tmp_path: Path) -> None:
    model = with_node("Dropout", opset=opset)
    assert "nn.dropout" not in operators(model, tmp_path)


def test_dropout_quantizes(tmp_path: Path) -> None:
    model = import_model(save(with_node("Dropout"), tmp_path / "m.onnx"))
    pipeline = Pipeline(model, VTAConfig.load("default"))
    pipeline.calibrate([IMAGE])
    assert not pipeline.compile(pipeline.quantize("profiled_fused")).host.fallbacks


@pytest.mark.parametrize(("training", "becomes"), [(False, "Identity"), (True, "Dropout")])
def test_dropout_that_trains_stays(training: bool, becomes: str) -> None:
    model = with_node("Dropout", "", "training")
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(training), "training"))
    assert types(model)[2] == becomes


def test_a_mask_that_is_read_keeps_its_dropout() -> None:
    nodes = (
        helper.make_node("Dropout", ["r"], ["d", "mask"]),
        helper.make_node("Where", ["mask", "d", "r"], ["e"]),
    )
    assert types(tiny_model(extra=nodes))[2] == "Dropout"


# ---- auto_pad -----------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op", ["Conv", "MaxPool"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 1), (3, 3)])
def test_auto_pad_becomes_numbers(
    mode: str, op: str, kernel: int, stride: int, tmp_path: Path
) -> None:
    attributes: dict[str, Any] = {"strides": [stride] * 2, "auto_pad": mode}
    if op == "MaxPool":
        attributes["kernel_shape"] = [kernel] * 2
    model = with_node(op, *(["w"] if op == "Conv" else []), **attributes)
    values = np.random.default_rng(1).normal(size=(4, 4, kernel, kernel))
    model.graph.initializer.extend(weights(w=values) if op == "Conv" else [])
    found = operators(model, tmp_path)
    assert found[2] == {"Conv": "nn.conv2d", "MaxPool": "nn.max_pool2d"}[op]
    assert "call_tir" not in found


@pytest.mark.parametrize(
    ("kernel", "stride", "pads"),
    [(3, 2, 0), (2, 2, 0), (3, 3, 0), (3, 2, 1), (2, 3, 1), (2, 4, 0), (1, 3, 0)],
)
def test_ceil_mode_becomes_numbers(kernel: int, stride: int, pads: int, tmp_path: Path) -> None:
    model = with_node(
        "MaxPool",
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[pads] * 4,
        ceil_mode=1,
    )
    imported = import_model(save(model, tmp_path / "m.onnx"))
    pool = read_graph(imported.mod).bindings[2].value
    assert op_name(pool) == "nn.max_pool2d" and not pool.attrs.ceil_mode
    assert operators(model, tmp_path)[2] == "nn.max_pool2d"


def test_auto_pad_counts_dilation() -> None:
    model = with_node(
        "MaxPool", kernel_shape=[3, 2], dilations=[2, 1], strides=[1, 2], auto_pad="SAME_LOWER"
    )
    found = {a.name: a.ints for a in simplify(model).graph.node[2].attribute}
    assert list(found["pads"]) == [2, 0, 2, 0]


# ---- averages -----------------------------------------------------------------------------------
AVERAGES = {
    "pool": with_node("AveragePool", kernel_shape=[8, 8]),
    "strided pool": with_node("AveragePool", kernel_shape=[8, 8], strides=[8, 8]),
    "kept": with_node("ReduceMean", axes=[2, 3]),
    "from behind": with_node("ReduceMean", axes=[-1, -2], keepdims=1),
}


@pytest.mark.parametrize("form", AVERAGES)
def test_an_average_of_the_picture_is_global(form: str, tmp_path: Path) -> None:
    assert types(AVERAGES[form])[2] == "GlobalAveragePool"
    assert operators(AVERAGES[form], tmp_path)[2] == "mean"


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("AveragePool", {"kernel_shape": [8, 8], "pads": [1, 1, 1, 1]}),
        ("ReduceMean", {"axes": [1, 2]}),
        ("ReduceMean", {}),
    ],
)
def test_other_averages_stay(op: str, attributes: dict[str, Any]) -> None:
    assert types(with_node(op, **attributes))[2] == op


@pytest.mark.parametrize("strides", [[1, 1], [3, 2]])
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_a_window_as_large_as_the_picture_around_every_pixel(
    mode: str, strides: list[int], tmp_path: Path
) -> None:
    model = with_node("AveragePool", kernel_shape=[8, 8], strides=strides, auto_pad=mode)
    assert types(model)[2] == "AveragePool"
    operators(model, tmp_path)  # equal to ONNX Runtime


@pytest.mark.parametrize("opset", [13, 18])
def test_a_mean_without_kept_dimensions_is_flattened(opset: int, tmp_path: Path) -> None:
    model = tiny_model(opset=opset, shape=IMAGE.shape)
    del model.graph.node[2:4]  # global average pool, flatten
    axes = numpy_helper.from_array(np.asarray([2, 3]), "axes")
    if opset < 18:
        mean = helper.make_node("ReduceMean", ["r"], ["f"], axes=[2, 3], keepdims=0)
    else:
        mean = helper.make_node("ReduceMean", ["r", "axes"], ["f"], keepdims=0)
        model.graph.initializer.append(axes)
    model.graph.node.insert(2, mean)
    assert types(model)[2:4] == ["GlobalAveragePool", "Flatten"]
    assert "mean" in operators(model, tmp_path)


# ---- Sum ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("inputs", [(), ("c",), ("c", "r")])
def test_a_sum_becomes_adds(inputs: tuple[str, ...], tmp_path: Path) -> None:
    model = with_node("Sum", *inputs)
    assert types(model)[2:-3] == (["Add"] * len(inputs) or ["Identity"])
    assert operators(model, tmp_path).count("add") == len(inputs) + 1


# ---- Clip ---------------------------------------------------------------------------------------
def test_clip_from_zero_is_relu(tmp_path: Path) -> None:
    model = with_node("Clip", "zero")
    model.graph.initializer.extend(weights(zero=0.0))
    assert operators(model, tmp_path)[1:3] == ["nn.relu", "nn.relu"]


def test_the_model_given_is_not_changed() -> None:
    model = with_node("Dropout")
    before = model.SerializeToString()
    simplify(model)
    assert model.SerializeToString() == before


def test_shapes_that_are_not_known_change_nothing() -> None:
    model = with_node("MaxPool", kernel_shape=[2, 2], auto_pad="SAME_UPPER")
    model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, "H", "W"])
    )
    assert list(simplify(model).graph.node) == list(model.graph.node)


# ---- Pad ----------------------------------------------------------------------------------------
def padded(
    zeros: tuple[int, ...], *, opset: int = 13, value: float = 0.0, **attributes: Any
) -> Any:
    """Return the tiny model with a Pad and a convolution behind its Relu."""
    inputs = ["r", "pads", "value"] if opset > 10 else ["r"]
    given: dict[str, Any] = {} if opset > 10 else {"pads": zeros, "value": value}
    nodes = (
        helper.make_node("Pad", inputs, ["padded"], name="pad", **given),
        helper.make_node("Conv", ["padded", "w"], ["e"], name="second", **attributes),
    )
    model = tiny_model(extra=nodes, opset=opset, shape=IMAGE.shape)
    values = np.random.default_rng(1).normal(size=(4, 4, 3, 3))
    model.graph.initializer.extend(weights(w=values, value=value))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(zeros, np.int64), "pads"))
    return model


@pytest.mark.parametrize("value", [-np.inf, -3.4e38])
def test_pads_of_the_least_number_join_their_max_pool(value: float, tmp_path: Path) -> None:
    """Nothing is padded with: such a number must not reach the scales."""
    model = with_node("Pad", "pads", "value")
    tensors = {"pads": np.asarray([0, 0, 1, 0, 0, 0, 1, 2], np.int64), "value": np.float32(value)}
    for name, number in tensors.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(number), name))
    pool = helper.make_node(
        "MaxPool", ["e"], ["m"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0]
    )
    place = next(i for i, n in enumerate(model.graph.node) if n.name == "extra")
    for node in model.graph.node[place + 1 :]:
        node.input[:] = ["m" if name == "e" else name for name in node.input]
    model.graph.node.insert(place + 1, pool)
    assert "Pad" not in types(model)
    assert "nn.pad" not in operators(model, tmp_path)
    pool.attribute[0].ints[:] = [2, 2]
    model.graph.node[place + 1].CopyFrom(pool)  # windows of padding alone
    assert "Pad" in types(model)


def test_pads_that_fill_a_window_stay() -> None:
    model = padded((0, 0, 2, 2, 0, 0, 1, 1), pads=[1, 0, 0, 0])
    assert "Pad" in types(model)


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize("attributes", [{"strides": [2, 2]}, {"pads": [1, 1, 0, 0]}])
def test_pads_join_their_convolution(
    opset: int, attributes: dict[str, Any], tmp_path: Path
) -> None:
    model = padded((0, 0, 0, 1, 0, 0, 1, 2), opset=opset, **attributes)
    assert "Pad" not in types(model)
    assert "call_tir" not in operators(model, tmp_path)


@pytest.mark.parametrize(
    ("zeros", "value"),
    [((0, 0, 1, 1, 0, 0, 1, 1), 1.0), ((0, 1, 0, 0) * 2, 0.0)],
)
def test_other_pads_stay(zeros: tuple[int, ...], value: float) -> None:
    model = padded(zeros, value=value)
    onnx.checker.check_model(model)
    assert "Pad" in types(model)


def test_a_pad_that_others_read_stays() -> None:
    model = padded((0, 0, 1, 1, 0, 0, 1, 1))
    model.graph.node.insert(4, helper.make_node("Relu", ["padded"], ["other"]))
    assert "Pad" in types(model)


# ---- what nobody reads, what does nothing -------------------------------------------------------
@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("MaxPool", ["r"], ["e", "index"], "n", kernel_shape=[2, 2]),
        helper.make_node("MaxPool", ["r"], ["e", ""], "n", kernel_shape=[2, 2]),
        helper.make_node("Dropout", ["r"], ["e", "mask"], "n"),
    ],
    ids=["index", "empty", "mask"],
)
def test_results_that_nobody_reads_are_dropped(node: onnx.NodeProto, tmp_path: Path) -> None:
    model = tiny_model(extra=(node,), shape=IMAGE.shape)
    assert [n.output for n in simplify(model).graph.node if n.name == "n"] == [["e"]]
    assert "nn.dropout" not in operators(model, tmp_path)


def test_results_that_are_read_stay() -> None:
    nodes = (
        helper.make_node("MaxPool", ["r"], ["e", "index"], "n", kernel_shape=[2, 2]),
        helper.make_node("Cast", ["index"], ["more"], to=TensorProto.FLOAT),
    )
    model = tiny_model(extra=nodes, shape=IMAGE.shape)
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, None))
    assert [n.output for n in simplify(model).graph.node if n.name == "n"] == [["e", "index"]]


@pytest.mark.parametrize(("opset", "training"), [(9, False), (13, False), (15, True)])
def test_a_batch_norm_that_trains_uses_the_pictures_statistics(
    opset: int, training: bool, tmp_path: Path
) -> None:
    """Before version 14, more than one result says that it trains."""
    model = with_node("BatchNormalization", "g", "b", "m", "v", opset=opset, epsilon=1e-3)
    rng = np.random.default_rng(0)
    model.graph.initializer.extend(
        weights(g=rng.normal(size=4), b=rng.normal(size=4), m=np.zeros(4), v=np.ones(4))
    )
    node = next(n for n in model.graph.node if n.name == "extra")
    node.output.extend(["mean", "variance"])
    if training:
        node.attribute.append(helper.make_attribute("training_mode", 1))
    else:
        node.output.extend(["saved_mean", "saved_variance"])
    assert "InstanceNormalization" in types(model)
    operators(model, tmp_path)  # equal to ONNX Runtime


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_pool_of_one_number_does_nothing(op: str, tmp_path: Path) -> None:
    model = with_node(op, kernel_shape=[1, 1], strides=[1, 1])
    assert "Identity" in types(model) and op not in types(model)
    found = operators(model, tmp_path)
    assert not {"nn.max_pool2d", "nn.avg_pool2d", "max_pool"} & set(found)
    assert op in types(with_node(op, kernel_shape=[1, 1], strides=[2, 2]))
    assert op in types(with_node(op, kernel_shape=[1, 1], pads=[1, 1, 1, 1]))


def test_a_pad_by_nothing_does_nothing(tmp_path: Path) -> None:
    model = with_node("Pad", "pads", mode="reflect")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(8, np.int64), "pads"))
    assert "Pad" not in types(model)
    assert "nn.pad" not in operators(model, tmp_path)


def test_branches_that_lead_nowhere_are_dropped() -> None:
    nodes = (
        helper.make_node("Sigmoid", ["r"], ["dead"], "dead"),
        helper.make_node("Exp", ["dead"], ["deader"], "deader"),
        helper.make_node("Relu", ["r"], ["e"], "alive"),
    )
    names = {n.name for n in simplify(tiny_model(extra=nodes, shape=IMAGE.shape)).graph.node}
    assert "alive" in names and names.isdisjoint({"dead", "deader"})


# ---- ConvTranspose ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kernel", "stride", "more", "auto_pad"),
    [
        (3, 2, 0, "NOTSET"),
        (3, 2, -1, "NOTSET"),
        (3, 2, 0, "SAME_UPPER"),
        (3, 2, 0, "SAME_LOWER"),
        (4, 3, 1, "NOTSET"),
        (3, 1, 0, "SAME_UPPER"),
    ],
)
def test_sizes_of_transposed_convolutions(
    kernel: int, stride: int, more: int, auto_pad: str, tmp_path: Path
) -> None:
    size = 8 * stride + more
    model = with_node(
        "ConvTranspose", "w", strides=[stride, stride], output_shape=[size, size - 1],
        auto_pad=auto_pad,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    model.graph.initializer.extend(weights(w=rng.normal(size=(4, 4, kernel, kernel))))
    assert "nn.conv2d_transpose" in operators(model, tmp_path)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_auto_pad_of_transposed_convolutions(auto_pad: str, tmp_path: Path) -> None:
    model = with_node("ConvTranspose", "w", strides=[2, 2], auto_pad=auto_pad)
    model.graph.initializer.extend(weights(w=np.random.default_rng(0).normal(size=(4, 4, 3, 3))))
    assert "nn.conv2d_transpose" in operators(model, tmp_path)


def test_constants_that_nobody_reads_are_dropped(tmp_path: Path) -> None:
    model = tiny_model(shape=IMAGE.shape, opset=13)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["text"], value_string="abc"))
    nothing = numpy_helper.from_array(np.asarray(np.nan, np.float32), "nothing")
    model.graph.initializer.append(nothing)
    assert "nothing" not in {tensor.name for tensor in simplify(model).graph.initializer}
    operators(model, tmp_path)  # equal to ONNX Runtime
