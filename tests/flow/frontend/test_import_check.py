"""import_check.py: an import that computes something else is refused, rounding is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.data.models import load_model
from flow.frontend import import_check
from flow.frontend.importer import import_model
from tests.flow.onnx_models import save, tiny_model, weights
from vta_config.errors import UnsupportedModelError

SHAPE = (1, 3, 8, 8)


def with_node(op: str, *inputs: str, opset: int = 13, **attributes: Any) -> onnx.ModelProto:
    """Return the tiny model with a node behind its Relu."""
    node = helper.make_node(op, ["r", *inputs], ["e"], name="extra", **attributes)
    return tiny_model(extra=(node,), opset=opset, shape=SHAPE)


def resized(scale: float) -> onnx.ModelProto:
    model = with_node("Resize", "", "scales", mode="linear")
    model.graph.initializer.extend(weights(scales=[1, 1, scale, scale]))
    return model


def refuse(model: onnx.ModelProto, sentence: str, folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(save(model, folder / "m.onnx"))


# ---- what differs -------------------------------------------------------------------------------
def test_the_first_tensor_that_differs_is_named(tmp_path: Path) -> None:
    """TVM resizes to 4 of 8 as by 0.5, ONNX by the scale that the file says."""
    sentence = (
        r"m node extra \(Resize\): must be imported as ONNX Runtime computes it, got a difference "
        r"of [\d.]+ where values reach [\d.]+ in tensor e; export that operator differently, "
        r"or give --skip-import-check"
    )
    refuse(resized(0.6), sentence, tmp_path)


def test_the_check_can_be_skipped(tmp_path: Path) -> None:
    path = save(resized(0.6), tmp_path / "m.onnx")
    assert import_model(path, check=False).classes == load_model(path, check=False).classes == 5
    with pytest.raises(UnsupportedModelError, match="must be imported as ONNX Runtime computes"):
        load_model(path)


def changed(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let the importer read a model that is not the file's."""
    from flow.frontend import importer

    simplify = importer.simplify

    def wrong(proto: Any) -> Any:
        result = simplify(proto)
        change(result.graph)
        return result

    monkeypatch.setattr(importer, "simplify", wrong)


@pytest.mark.parametrize(
    ("index", "attribute", "got"),
    [
        (0, helper.make_attribute("pads", [0, 2, 2, 0]), r"node conv_node \(Conv\): .* difference"),
        (0, helper.make_attribute("pads", [1, 1, 2, 1]), r"\(Conv\): .* got shape \[1, 4, 9, 8\]"),
    ],
)
def test_layers_that_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int, attribute: Any, got: str
) -> None:
    def change(graph: Any) -> None:
        del graph.node[index].attribute[:]
        graph.node[index].attribute.append(attribute)

    changed(monkeypatch, change)
    refuse(tiny_model(shape=SHAPE), got, tmp_path)


@pytest.mark.parametrize("factor", [1.001, 1.0 + 2**-12])
def test_small_differences_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    def change(graph: Any) -> None:
        for tensor in graph.initializer:
            if tensor.name == "head.weight":
                values = numpy_helper.to_array(tensor) * np.float32(factor)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    changed(monkeypatch, change)
    refuse(
        tiny_model(shape=SHAPE), r"m node g \(Gemm\): .* a difference of .* tensor logits", tmp_path
    )


def test_integers_must_be_equal() -> None:
    ones, twos = np.ones(3, np.int64), np.asarray([1, 2, 2])
    assert import_check._difference(ones, twos, lambda: ones) == "2 of 3 integers that differ"
    assert not import_check._difference(twos, twos, lambda: twos)


def test_infinity_elsewhere_differs() -> None:
    a, b = np.asarray([1.0, np.inf]), np.asarray([1.0, -np.inf])
    assert import_check._difference(a, b, lambda: a) == "NaN or infinity elsewhere"
    nan = np.asarray([1.0, np.nan])
    assert import_check._difference(nan, a, lambda: a) == "NaN or infinity elsewhere"
    assert not import_check._difference(nan, nan, lambda: nan)


# ---- what does not ------------------------------------------------------------------------------
def test_cancellation_is_rounding(tmp_path: Path) -> None:
    """Weights that cancel but for a millionth: the result is all rounding, and must pass."""
    model = with_node("Conv", "cancel", pads=[1, 1, 1, 1])
    rng = np.random.default_rng(0)
    half = rng.normal(size=(4, 2, 3, 3)) * 1e6
    model.graph.initializer.extend(weights(cancel=np.concatenate([half, -half], axis=1)))
    stem = next(t for t in model.graph.initializer if t.name == "stem.weight")
    same = np.repeat(rng.normal(size=(1, 3, 3, 3)).astype(np.float32), 4, axis=0)
    stem.CopyFrom(numpy_helper.from_array(same, "stem.weight"))
    assert import_model(save(model, tmp_path / "m.onnx")).classes == 5


def test_a_tiny_variance_is_rounding(tmp_path: Path) -> None:
    model = with_node("BatchNormalization", "g", "b", "m", "v")
    model.graph.initializer.extend(
        weights(g=np.ones(4), b=np.zeros(4), m=np.full(4, 1e3), v=np.full(4, 6e-45))
    )
    assert import_model(save(model, tmp_path / "m.onnx")).classes == 5


@pytest.mark.parametrize("op", ["Sigmoid", "HardSwish", "Softmax", "Floor", "Sqrt", "Exp", "Elu"])
def test_operators_of_many_kinds_pass(tmp_path: Path, op: str) -> None:
    model = with_node(op, opset=14)
    assert import_model(save(model, tmp_path / "m.onnx")).classes == 5


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
        ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 3]}),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("ConvTranspose", {"strides": [2, 2]}),
        ("Conv", {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}),
    ],
)
def test_windows_pass(tmp_path: Path, op: str, attributes: dict[str, Any]) -> None:
    inputs = ["square"] if op in ("Conv", "ConvTranspose") else []
    model = with_node(op, *inputs, **attributes)
    square = np.random.default_rng(0).normal(size=(4, 2 if "group" in attributes else 4, 3, 3))
    model.graph.initializer.extend(weights(square=square))
    assert import_model(save(model, tmp_path / "m.onnx")).classes == 5


def test_little_memory_means_more_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_check, "_GROUP_BYTES", 1000)
    path = save(with_node("Sigmoid"), tmp_path / "m.onnx")
    assert import_model(path).classes == 5
    refuse(resized(0.6), r"m node extra \(Resize\): must be imported as ONNX Runtime", tmp_path)


# ---- what cannot be compared --------------------------------------------------------------------
def test_logits_must_be_numbers(tmp_path: Path) -> None:
    model = with_node("BatchNormalization", "g", "b", "m", "v")
    model.graph.initializer.extend(
        weights(g=np.ones(4), b=np.zeros(4), m=np.zeros(4), v=np.full(4, -1.0))
    )
    refuse(
        model,
        r"m output: must be finite numbers, got NaN or infinity, in ONNX Runtime too; ch",
        tmp_path,
    )


@pytest.mark.parametrize("twin", ["x", "y"])
def test_the_first_output_may_be_the_input_or_appear_twice(tmp_path: Path, twin: str) -> None:
    """Their slices have no name of their own; the numbers are finite nevertheless."""
    model = tiny_model(shape=SHAPE)
    graph = model.graph
    source = graph.input[0].name if twin == "x" else graph.output[0].name
    graph.node.append(helper.make_node("Identity", [source], ["twin"]))
    output = helper.make_tensor_value_info("twin", TensorProto.FLOAT, None)
    graph.output.insert(0 if twin == "x" else 1, output)
    assert len(import_model(save(model, tmp_path / "m.onnx")).outputs) == 2


def test_a_model_that_onnx_runtime_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("[ONNXRuntimeError] : 9 : Status Message: no kernel\n  for that.")

    path = save(tiny_model(shape=SHAPE), tmp_path / "m.onnx")
    sentence = (
        r"m: must run on ONNX Runtime, which the import is compared with, got no kernel for tha"
    )
    for method in ("__init__", "run"):
        with monkeypatch.context() as patch:
            patch.setattr(import_check.OnnxSession, method, fail)
            with pytest.raises(UnsupportedModelError, match=sentence):
                import_model(path)


def test_an_import_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such function")

    monkeypatch.setattr(import_check, "HostModule", fail)
    refuse(
        with_node("Sigmoid"),
        r"node extra \(Sigmoid\): .* got no such function in tensor e;",
        tmp_path,
    )


def test_without_origins_the_logits_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flow.frontend import importer

    run = importer.run_importer
    monkeypatch.setattr(importer, "run_importer", lambda *args: (run(*args)[0], {}))
    assert import_model(save(with_node("Sigmoid"), tmp_path / "m.onnx")).origins == {}
    refuse(
        resized(0.6), r"m node g \(Gemm\): must be imported as .* in tensor logits; exp", tmp_path
    )


def test_elements_of_many_types_pass(tmp_path: Path) -> None:
    nodes = (
        helper.make_node("Cast", ["r"], ["h"], "half", to=TensorProto.FLOAT16),
        helper.make_node("Add", ["h", "h"], ["h2"], "double"),
        helper.make_node("Cast", ["h2"], ["i"], "whole", to=TensorProto.INT32),
        helper.make_node("Cast", ["i"], ["e"], "back", to=TensorProto.FLOAT),
    )
    model = tiny_model(extra=nodes, shape=SHAPE)
    assert import_model(save(model, tmp_path / "m.onnx")).classes == 5
