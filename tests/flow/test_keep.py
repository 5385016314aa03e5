"""Models that are quantized already keep their integers, from the file to the simulators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from flow.data.models import DEFAULT_MODEL, bundled_data, load_model
from flow.frontend.importer import import_model
from flow.pipeline import Pipeline
from relay_passes.numerics import centred, sqnr_db
from relay_passes.variants import KEEP, KEEP_DYADIC
from tests.flow.excited import excited
from tests.flow.onnx_models import save
from tests.flow.qdq_models import (
    Builder,
    model,
    quantized_by_onnxruntime,
    run,
    with_clips,
    with_float_weights,
)
from vta_config.errors import CalibrationError
from vta_config.hardware import VTAConfig

DEFAULT = VTAConfig.load("default")


@pytest.fixture(scope="module")
def digits() -> Any:
    """The bundled model, and images to evaluate and to calibrate."""
    found = load_model(DEFAULT_MODEL, check=False)
    data = bundled_data(found)
    assert data is not None
    return found, data[0].take(100, seed=0), data[1].take(32, seed=0)


def agreement_db(path: Path, images: Any, variant: str, want: np.ndarray | None = None) -> float:
    """Return how well fsim agrees with ONNX Runtime on the file, centred."""
    found = import_model(path, check=False)
    pipeline = Pipeline(found, DEFAULT)
    compiled = pipeline.compile(pipeline.quantize(variant))
    assert not compiled.host.fallbacks
    network = compiled.network()
    ours = np.stack([network(image).ravel() for image in images])
    theirs = run(found.proto, list(images))
    return sqnr_db(centred(theirs), centred(ours))


@pytest.mark.slow
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("signed", "symmetric"), [(True, False), (True, True), (False, False)])
def test_onnxruntimes_digits(
    digits: Any, tmp_path: Path, signed: bool, symmetric: bool, per_channel: bool
) -> None:
    """S8S8 and U8S8, per tensor and per channel."""
    found, images, calibration = digits
    proto = quantized_by_onnxruntime(
        found.proto, calibration, tmp_path,
        signed=signed, per_channel=per_channel, symmetric=symmetric,
    )  # fmt: skip
    path = save(proto, tmp_path / "q.onnx")
    assert agreement_db(path, images, KEEP) > 32
    assert agreement_db(path, images, KEEP_DYADIC) > 34


@pytest.mark.slow
@pytest.mark.parametrize(("change", "signed"), [(with_clips, True), (with_float_weights, False)])
def test_the_digits_in_other_forms(digits: Any, tmp_path: Path, change: Any, signed: bool) -> None:
    """Brevitas' QCDQ, NNCF's float weights: the same integers, so the same agreement."""
    found, images, calibration = digits
    proto = change(
        quantized_by_onnxruntime(
            found.proto, calibration, tmp_path, signed=signed, per_channel=True
        )
    )
    assert agreement_db(save(proto, tmp_path / "q.onnx"), images, KEEP) > 32


@pytest.mark.slow
@pytest.mark.parametrize("signed", [True, False])
def test_products_of_two_tensors(tmp_path: Path, signed: bool) -> None:
    """Squeeze-and-excitation: a factor's scale in the file suits no shift, so it is converted."""
    rng = np.random.default_rng(2)
    images = [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(20)]
    data: Any = images  # a list does for a data set
    proto = quantized_by_onnxruntime(
        excited(swapped=signed), data, tmp_path, signed=signed, per_channel=True
    )
    assert agreement_db(save(proto, tmp_path / "q.onnx"), images, KEEP) > 28


def test_exact_powers_of_two(tmp_path: Path) -> None:
    """Nothing is left but ties, which ONNX rounds to even: at most one step of the pooled values.

    The weights are odd numbers and the images whole steps, so that ties are common.
    """
    rng = np.random.default_rng(3)
    b = Builder()
    x = b.pair("x", 2.0**-4, 0, np.int8)
    w = b.weight("stem.weight", rng.integers(-60, 61, (8, 3, 3, 3)).astype(np.int8), 2.0**-7)
    r = b.node("Conv", [x, w], "c", pads=[1, 1, 1, 1])
    r = b.pair(r, 2.0**-4, 0, np.uint8)
    r = b.node("MaxPool", [r], "m", kernel_shape=[8, 8])
    r = b.node("Flatten", [r], "f")
    v = b.weight("fc.weight", np.eye(8, dtype=np.int8)[:5], 1.0)
    b.node("Gemm", [r, v], "y", transB=1)
    path = save(model(b.nodes, b.tensors), tmp_path / "q.onnx")
    found = import_model(path)
    pipeline = Pipeline(found, DEFAULT)
    compiled = pipeline.compile(pipeline.quantize(KEEP))
    assert not compiled.host.fallbacks
    network = compiled.network()
    images = [rng.integers(-40, 41, (1, 3, 8, 8)).astype(np.float32) / 16 for _ in range(20)]
    steps = (np.stack([network(i) for i in images]) - run(found.proto, images)) * 16
    assert np.array_equal(steps, np.rint(steps)) and np.abs(steps).max() <= 1
    assert (steps == 0).mean() > 0.9


def test_batch_norms_behind_quantized_weights(tmp_path: Path) -> None:
    """Training with quantization leaves them in the graph: folded, the integers stay the file's."""
    rng = np.random.default_rng(4)
    b = Builder()
    w = b.weight("stem.weight", rng.integers(-127, 128, (16, 3, 3, 3)).astype(np.int8), 2.0**-8)
    r = b.node("Conv", [b.pair("x", 2.0**-5, 0, np.int8), w], "c", pads=[1, 1, 1, 1])
    gamma = np.where(np.arange(16) % 2, 0.7, -0.5)
    norm = [
        b.tensor(f"bn.{name}", value)
        for name, value in {
            "gamma": gamma, "beta": 0.1 * gamma, "mean": np.zeros(16), "var": np.full(16, 0.9),
        }.items()
    ]  # fmt: skip
    r = b.node("BatchNormalization", [r, *norm], "n")
    r = b.pair(r, 2.0**-6, -128, np.int8)
    r = b.node("Flatten", [b.node("GlobalAveragePool", [r], "p")], "f")
    v = b.weight("fc.weight", rng.integers(-127, 128, (5, 16)).astype(np.int8), 2.0**-8)
    b.node("Gemm", [r, v], "y", transB=1)
    path = save(model(b.nodes, b.tensors), tmp_path / "q.onnx")
    images = [rng.uniform(-2, 2, (1, 3, 8, 8)).astype(np.float32) for _ in range(10)]
    assert agreement_db(path, images, KEEP) > 30
    found = import_model(path, check=False)
    pipeline = Pipeline(found, DEFAULT)
    kept = pipeline.deviation(pipeline.quantize(KEEP_DYADIC))
    assert kept is not None and kept.channels == 21
    assert kept.same_channels >= 5 + 8  # in a block of two scales those of the larger


@pytest.mark.parametrize("signed", [False, True])
def test_concatenations_have_one_scale(tmp_path: Path, signed: bool) -> None:
    """The file has one for each part, and one for the whole: the parts get that of the whole."""
    rng = np.random.default_rng(5)
    b = Builder()
    x = b.pair("x", 2.0**-5, 0, np.int8)
    parts = []
    for name, scale in (("left", 0.011), ("right", 0.02)):
        w = b.weight(
            f"{name}.weight", rng.integers(-127, 128, (16, 3, 1, 1)).astype(np.int8), 0.006
        )
        zero = 128 if signed and name == "left" else 0
        parts.append(b.pair(b.node("Conv", [x, w], name), scale, zero, np.uint8))
    r = b.pair(b.node("Concat", parts, "both", axis=1), 0.021, 100 if signed else 0, np.uint8)
    w = b.weight("last.weight", rng.integers(-127, 128, (5, 32, 1, 1)).astype(np.int8), 0.005)
    r = b.pair(b.node("Conv", [r, w], "last"), 0.05, 128, np.uint8)
    b.node("Flatten", [b.node("GlobalAveragePool", [r], "p")], "y")
    path = save(model(b.nodes, b.tensors), tmp_path / "q.onnx")
    images = [rng.uniform(-1.0, 1.0, (1, 3, 8, 8)).astype(np.float32) for _ in range(10)]
    # Without zero points in the middle of the range, the left part has steps 2.3 times as large.
    assert agreement_db(path, images, KEEP) > (25 if signed else 30)


def test_a_float_model_has_nothing_to_keep(digits: Any) -> None:
    sentence = (
        r"keep: must be given a model that is quantized already, whose integers are kept, got "
        r"digits-resnet18; choose another variant, or give --qdq keep"
    )
    with pytest.raises(CalibrationError, match=sentence):
        Pipeline(digits[0], DEFAULT).quantize(KEEP)


def test_stages_of_a_kept_model(tmp_path: Path) -> None:
    b = Builder()
    w = b.weight("w", np.ones((4, 3, 1, 1), np.int8), 0.1)
    r = b.node("Conv", [b.pair("x", 0.1, 0, np.int8), w], "c")
    b.node("Flatten", [b.node("GlobalAveragePool", [r], "p")], "y")
    proto = model(b.nodes, b.tensors, classes=4)
    found = import_model(save(proto, tmp_path / "q.onnx"))
    names: list[str] = []
    Pipeline(found, DEFAULT).walk(KEEP, lambda name, result: names.append(name))
    assert names[0] == "fold" and names[-1] == "compile"
    assert isinstance(found.proto, onnx.ModelProto)
