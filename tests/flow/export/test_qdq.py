"""Quantized models as QDQ: ONNX Runtime computes our integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from flow.data.models import DEFAULT_MODEL, bundled_data, load_model
from flow.export.qdq import export_qdq
from flow.frontend.importer import import_model
from flow.pipeline import Pipeline
from relay_passes.variants import KEEP_DYADIC
from tests.flow.excited import excited
from tests.flow.onnx_models import save, tiny_model
from tests.flow.qdq_models import Builder, model, run, session
from vta_config.hardware import VTAConfig

DEFAULT = VTAConfig.load("default")
SLOW = ("best", "w4a8", "dyadic", "per_tensor", "profiled", "stock_relay")


@pytest.fixture(scope="module")
def digits() -> Any:
    """The bundled model's pipeline, calibrated, and 100 images."""
    found = load_model(DEFAULT_MODEL, check=False)
    data = bundled_data(found)
    assert data is not None
    pipeline = Pipeline(found, DEFAULT)
    pipeline.calibrate(data[1].take(32, seed=0))
    return pipeline, list(data[0].take(100, seed=0))


@pytest.mark.parametrize(
    "variant", ["profiled_fused", *(pytest.param(v, marks=pytest.mark.slow) for v in SLOW)]
)
def test_the_digits_come_out_equal(digits: Any, variant: str) -> None:
    """Every bit of the logits of 100 images, with and without ONNX Runtime's optimizations."""
    pipeline, images = digits
    quantized = pipeline.quantize(variant)
    proto = export_qdq(quantized, ["logits"], ["data"])
    onnx.checker.check_model(proto, full_check=True)
    ours = pipeline.compile(quantized).network()
    expected = np.stack([ours(image) for image in images])
    for optimize in (False, True):
        network = session(proto, optimize=optimize)
        got = np.stack([network(image).ravel() for image in images])
        if variant == "stock_relay":  # its ends are floats
            assert np.allclose(got, expected, rtol=1e-5, atol=1e-5)
        else:
            assert np.array_equal(got, expected)


def test_scales_are_powers_of_two_and_near_the_plans(digits: Any) -> None:
    pipeline, _ = digits
    proto = export_qdq(pipeline.quantize("profiled_fused"), ["logits"], ["data"])
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    kinds = {node.op_type for node in proto.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "Relu", "MaxPool", "Gemm"} <= kinds
    for node in proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale = constants[node.input[1]]
            assert (np.frexp(scale)[0] == 0.5).all()
    assert {o.domain for o in proto.opset_import} == {""}
    assert {node.domain for node in proto.graph.node} == {""}


def networks(tmp_path: Path, proto: onnx.ModelProto, variant: str, images: Any) -> tuple[Any, Any]:
    """Return fsim's and ONNX Runtime's results of a model on images."""
    pipeline = Pipeline(import_model(save(proto, tmp_path / "m.onnx")), DEFAULT)
    pipeline.calibrate(images)
    quantized = pipeline.quantize(variant)
    exported = session(export_qdq(quantized, ["y"]))
    ours = pipeline.compile(quantized).network()
    return [ours(i) for i in images], [exported(i).ravel() for i in images]


def test_depthwise_layers_residuals_and_relu6(tmp_path: Path) -> None:
    """Zero points with padding, a signed residual that is clipped, an upper limit."""
    rng = np.random.default_rng(5)
    b = Builder()
    names = {
        "a.weight": (16, 3, 3, 3), "b.weight": (16, 1, 3, 3), "c.weight": (16, 16, 1, 1),
        "fc.weight": (5, 16),
    }  # fmt: skip
    for name, shape in names.items():
        b.tensor(name, rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])))
    low, high = b.tensor("low", 0.0), b.tensor("high", 1.0)
    stem = b.node("Conv", ["x", "a.weight"], "stem", pads=[1, 1, 1, 1])
    r = b.node("Clip", [stem, low, high], "r")
    r = b.node("Conv", [r, "b.weight"], "d", pads=[1, 1, 1, 1], group=16)
    r = b.node("Relu", [r], "e")
    r = b.node("Conv", [r, "c.weight"], "f")
    r = b.node("Add", [r, stem], "g")
    r = b.node("Flatten", [b.node("GlobalAveragePool", [r], "p")], "q")
    b.node("Gemm", [r, "fc.weight"], "y", transB=1)
    images = [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(10)]
    for variant in ("profiled_fused", "best", "dyadic"):
        ours, theirs = networks(tmp_path, model(b.nodes, b.tensors), variant, images)
        assert np.array_equal(ours, theirs), variant


def test_operators_of_the_host_are_floats_in_the_file(tmp_path: Path) -> None:
    """A softmax in the middle: its results may differ in the last bit, here they need not."""
    extra = onnx.helper.make_node("Softmax", ["r"], ["e"], axis=1)
    rng = np.random.default_rng(6)
    images = [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(5)]
    ours, theirs = networks(tmp_path, tiny_model(extra=(extra,)), "profiled_fused", images)
    assert np.allclose(ours, theirs, atol=0.02)


def test_multipliers_of_many_bits(tmp_path: Path) -> None:
    """They are multiplied in float64: 15 bits of the multiplier, and shifts beyond 15."""
    rng = np.random.default_rng(7)
    b = Builder()
    w = b.weight("stem.weight", rng.integers(-127, 128, (16, 3, 3, 3)).astype(np.int8), 0.0071)
    r = b.node("Conv", [b.pair("x", 0.0213, 0, np.int8), w], "c", pads=[1, 1, 1, 1])
    r = b.pair(r, 0.0177, 0, np.uint8)
    r = b.node("Flatten", [b.node("GlobalAveragePool", [r], "p")], "f")
    v = b.weight("fc.weight", rng.integers(-127, 128, (5, 16)).astype(np.int8), 0.013)
    b.node("Gemm", [r, v], "y", transB=1)
    images = [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(10)]
    ours, theirs = networks(tmp_path, model(b.nodes, b.tensors), KEEP_DYADIC, images)
    assert np.array_equal(ours, theirs)


def test_the_file_can_be_imported_again(tmp_path: Path, digits: Any) -> None:
    """Its integers are kept: the same logits but for what a pair of roundings does."""
    pipeline, images = digits
    quantized = pipeline.quantize("profiled_fused")
    proto = export_qdq(quantized, ["logits"], ["data"])
    again = import_model(save(proto, tmp_path / "again.onnx"))
    assert again.kept is not None and len(again.kept.weights) == 21
    kept = Pipeline(again, DEFAULT)
    network = kept.compile(kept.quantize("keep")).network()
    got = np.stack([network(image) for image in images[:20]])
    want = run(proto, images[:20])
    assert (got.argmax(axis=1) == want.argmax(axis=1)).all()


@pytest.mark.parametrize("kind", ["LeakyRelu", "HardSwish"])
def test_functions_of_hinges(tmp_path: Path, kind: str) -> None:
    """Factors that are negative, or have odd parts, before the larger of two is taken."""
    more = {"alpha": 0.1} if kind == "LeakyRelu" else {}
    proto = tiny_model(extra=(onnx.helper.make_node(kind, ["r"], ["e"], **more),))
    proto.opset_import[0].version = 14
    rng = np.random.default_rng(8)
    images = [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(6)]
    ours, theirs = networks(tmp_path, proto, "best", images)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("variant", ["profiled_fused", "best"])
def test_products_of_two_tensors(tmp_path: Path, variant: str) -> None:
    """A Mul between DequantizeLinear and QuantizeLinear, whose zero points differ."""
    rng = np.random.default_rng(9)
    images = [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(6)]
    proto = excited(gate="Sigmoid" if variant == "best" else "HardSigmoid", swapped=True)
    ours, theirs = networks(tmp_path, proto, variant, images)
    assert np.array_equal(ours, theirs)


def test_maps_of_other_sizes(tmp_path: Path) -> None:
    """Linear interpolation is a product with a matrix, of rows and of columns."""
    rng = np.random.default_rng(11)
    b = Builder()
    b.tensor("a.weight", rng.normal(size=(8, 3, 3, 3)) / 5)
    b.tensor("b.weight", rng.normal(size=(4, 8, 3, 3)) / 8)
    scales = b.tensor("scales", [1, 1, 1.5, 2])
    r = b.node("Relu", [b.node("Conv", ["x", "a.weight"], "stem")], "r")
    r = b.node(
        "Resize", [r, "", scales], "s", mode="linear",
        coordinate_transformation_mode="align_corners",
    )  # fmt: skip
    r = b.node("GlobalAveragePool", [b.node("Conv", [r, "b.weight"], "c")], "p")
    b.node("Flatten", [r], "y")
    images = [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(6)]
    for variant in ("profiled_fused", "best"):
        ours, theirs = networks(tmp_path, model(b.nodes, b.tensors), variant, images)
        assert np.array_equal(ours, theirs), variant


@pytest.mark.parametrize("mode", ["edge", "reflect", "constant"])
def test_pads_of_every_kind(tmp_path: Path, mode: str) -> None:
    """Copies of the edges are no zeros, and channels are padded by no convolution."""
    rng = np.random.default_rng(12)
    b = Builder()
    b.tensor("a.weight", rng.normal(size=(8, 3, 3, 3)) / 5)
    b.tensor("b.weight", rng.normal(size=(4, 10, 3, 3)) / 8)
    channels = (1, 1) if mode != "reflect" else (2, 0)
    widths = [0, channels[0], 1, 2, 0, channels[1], 1, 0]
    pads = onnx.numpy_helper.from_array(np.asarray(widths, np.int64), "pads")
    r = b.node("Relu", [b.node("Conv", ["x", "a.weight"], "stem")], "r")
    r = b.node("Conv", [b.node("Pad", [r, "pads"], "s", mode=mode), "b.weight"], "c")
    b.node("Flatten", [b.node("GlobalAveragePool", [r], "p")], "y")
    images = [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(6)]
    for variant in ("profiled_fused", "best"):
        proto = model(b.nodes, [*b.tensors, pads])
        ours, theirs = networks(tmp_path, proto, variant, images)
        assert np.array_equal(ours, theirs), variant
