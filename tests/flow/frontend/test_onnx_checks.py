"""onnx_checks.py: what is said of models that cannot be right, or are of kinds not imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.importer import import_model
from tests.flow.onnx_models import save, tiny_model, weights
from vta_config.errors import UnsupportedModelError


def refuse(model: onnx.ModelProto, sentence: str, folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=sentence) as caught:
        import_model(save(model, folder / "m.onnx"))
    assert "\n" not in str(caught.value)


def with_node(op: str, *inputs: str, opset: int = 13, **attributes: Any) -> onnx.ModelProto:
    """Return the tiny model with a node behind its Relu."""
    node = helper.make_node(op, ["r", *inputs], ["e"], name="extra", **attributes)
    model = tiny_model(extra=(node,), opset=opset, shape=(1, 3, 8, 8))
    model.graph.initializer.extend(weights(scale=np.float32(0.1)))
    return model


# ---- operators on integers ----------------------------------------------------------------------
@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("DynamicQuantizeLinear", ["r"], ["e", "s", "z"], "n"),
        helper.make_node("ConvInteger", ["r", "stem.weight"], ["e"], "n"),
        helper.make_node("MatMulInteger", ["r", "r"], ["e"], "n"),
        helper.make_node("QLinearMatMul", ["r"] * 8, ["e"], "n"),
        helper.make_node("QLinearConv", ["r"] * 8, ["e"], "n"),
        helper.make_node("QLinearAdd", ["r"] * 8, ["e"], "n", domain="com.microsoft"),
        helper.make_node("MatMulNBits", ["r"] * 3, ["e"], "n", domain="com.microsoft"),
    ],
    ids=lambda node: node.op_type,
)
def test_operators_on_integers_are_refused(tmp_path: Path, node: onnx.NodeProto) -> None:
    sentence = (
        r"node n: must be an operator on floats, or a QuantizeLinear or DequantizeLinear, got "
        rf"(com.microsoft.)?{node.op_type}; export the float model, or the quantized one in QDQ for"
    )
    refuse(tiny_model(extra=(node,)), sentence, tmp_path)


# ---- nonsense -----------------------------------------------------------------------------------
@pytest.mark.parametrize("version", [1 << 40, -1, 0, 1000])
def test_versions_that_do_not_exist(tmp_path: Path, version: int) -> None:
    model = tiny_model()
    model.opset_import[0].version = version
    newest = onnx.defs.onnx_opset_version()
    refuse(
        model, rf"set: must be a version from 1 to {newest}, got {version}; export for", tmp_path
    )


@pytest.mark.parametrize(
    ("op", "attributes", "sentence"),
    [
        ("Conv", {"strides": [0, 0]}, r"node extra strides: must be numbers from 1 to 1048576"),
        ("Conv", {"strides": [-1, -1]}, r"strides: must be numbers from 1 to 1048576, got \[-1"),
        ("Conv", {"dilations": [-1, -1]}, r"dilations: must be numbers from 1 to 1048576, got "),
        ("Conv", {"pads": [-1, -1, -1, -1]}, r"pads: must be numbers from 0 to 1048576, got "),
        ("Conv", {"pads": [1 << 40] * 4}, r"pads: must be numbers from 0 to 1048576, got "),
        ("Conv", {"group": 0}, r"group: must be numbers from 1 to 1048576, got \[0\]; correct"),
        ("Conv", {"auto_pad": b"\xff\xfe"}, r"auto_pad: must be text, got other bytes; correct"),
        ("Conv", {"auto_pad": "SAME"}, r"auto_pad: must be one of NOTSET, .* got SAME; correct"),
        ("MaxPool", {"kernel_shape": [3, 3], "pads": [1, 1], "ceil_mode": 1},
         r"attributes: must have the same number of axes, got kernel_shape of 2, pads of 1;"),
        ("MaxPool", {"kernel_shape": [3, 3], "pads": [1, 1, 1]},
         r"pads: must have a beginning and an end for each axis, got \[1, 1, 1\]; correct"),
        ("MaxPool", {"kernel_shape": [0, 3]}, r"kernel_shape: must be numbers from 1 to 1048576"),
        ("MaxPool", {"kernel_shape": [50, 50]},
         r"extra: must compute a tensor with at least one element, got shape .*; use a larger"),
    ],
)  # fmt: skip
def test_windows_that_cannot_be(
    tmp_path: Path, op: str, attributes: dict[str, Any], sentence: str
) -> None:
    model = with_node(op, *(["square"] if op == "Conv" else []), **attributes)
    model.graph.initializer.extend(weights(square=np.ones((4, 4, 3, 3))))
    refuse(model, sentence, tmp_path)


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def test_tensors_that_are_not_what_they_say(tmp_path: Path) -> None:
    model = tiny_model()
    tensor(model, "stem.weight").dims[0] = 1 << 31
    refuse(
        model, r"tensor stem.weight has 108 numbers, not 57982058496\); download or exp", tmp_path
    )
    tensor(model, "stem.weight").dims[0] = -4
    refuse(model, r"tensor stem.weight has dimensions \[-4, 3, 3, 3\]\); download", tmp_path)
    tensor(model, "stem.weight").data_type = 77
    tensor(model, "stem.weight").dims[0] = 4
    refuse(model, r"tensor stem.weight is of unknown type 77\); download", tmp_path)
    typed = tiny_model()
    bias = tensor(typed, "head.bias")
    bias.CopyFrom(helper.make_tensor("head.bias", TensorProto.FLOAT, [5], np.ones(5)))
    bias.float_data.append(1.0)
    refuse(typed, r"tensor head.bias has 6 numbers, not 5\); download", tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    model = tiny_model()
    values = numpy_helper.to_array(tensor(model, "stem.weight")).copy()
    values[1, 2, 0, 1] = value
    tensor(model, "stem.weight").CopyFrom(numpy_helper.from_array(values, "stem.weight"))
    sentence = r"m tensor stem.weight: must hold finite numbers, got 1 of 108 that are NaN or infin"
    refuse(model, sentence, tmp_path)


def test_bounds_may_be_infinite(tmp_path: Path) -> None:
    model = with_node("Clip", "", "high")
    model.graph.initializer.extend(weights(high=np.float32(np.inf)))
    assert import_model(save(model, tmp_path / "m.onnx")).classes == 5


def test_names_that_are_no_text(tmp_path: Path) -> None:
    data = tiny_model(conv_name="conv_node").SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data.replace(b"conv_node", b"conv\xff\xfeode"))
    sentence = (
        r"damaged file \(a name that is not UTF-8, b'conv\\xff\\xfeode'\); download or export"
    )
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(tmp_path / "m.onnx")


def test_control_flow_is_refused(tmp_path: Path) -> None:
    then = helper.make_graph(
        [helper.make_node("Identity", ["r"], ["t"])],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["yes"], ["e"], "choice", then_branch=then, else_branch=then)
    model = tiny_model(extra=(node,))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "yes"))
    refuse(model, r"node choice: must be straight-line code, got If; remove control flow", tmp_path)


def test_graphs_with_a_circle_or_two_sources_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    model.graph.node[1].input[0] = "r"
    refuse(model, r"must be a complete ONNX file, got a truncated or damaged file", tmp_path)
    model = tiny_model()
    model.graph.node[1].output[0] = "c"
    refuse(model, r"must be a complete ONNX file, got a truncated or damaged file", tmp_path)


def test_what_nobody_expected_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flow.frontend import importer

    def fail(proto: Any) -> Any:
        raise KeyError("surprise")

    monkeypatch.setattr(importer, "simplify", fail)
    sentence = (
        r"m: must be a model that can be imported, got KeyError \('surprise'\); correct or si"
    )
    refuse(tiny_model(), sentence, tmp_path)
