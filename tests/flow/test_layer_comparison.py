"""flow.layer_comparison: the SQNR of layers, found another way here, and what else they have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flow.backend import PipelineBackend
from flow.data.datasets import Dataset, random_images
from flow.frontend.importer import ImportedModel, import_model
from flow.results.evaluate import OnnxRuntime, measure, run_all
from flow.results.layer_facts import LayerFacts
from relay_passes.numerics import quantize
from tests.flow.onnx_models import save, tiny_model
from vta_config import VTAConfig


def ignore(done: int, total: int, note: str = "") -> None:
    """Take progress and do nothing."""


def second() -> tuple[onnx.NodeProto, ...]:
    """Return the nodes of a second convolution, which the average behind it joins."""
    weight = numpy_helper.from_array(np.ones((4, 4, 3, 3), np.float32))
    return (
        helper.make_node("Constant", [], ["w2"], value=weight),
        helper.make_node("Conv", ["r", "w2"], ["e"], name="second", pads=[1, 1, 1, 1]),
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ImportedModel:
    folder = tmp_path_factory.mktemp("model")
    return import_model(save(tiny_model(extra=second()), folder / "tiny.onnx"))


@pytest.fixture(scope="module")
def images(model: ImportedModel) -> Dataset:
    return random_images(model.input_shape, 3)


@pytest.fixture(scope="module")
def backend(model: ImportedModel, images: Dataset) -> PipelineBackend:
    backend = PipelineBackend(model, VTAConfig.load("default"))
    backend.calibrate(images, ignore)
    return backend


@pytest.mark.parametrize("variant", ["profiled_fused", "per_tensor", "w4a8"])
def test_the_last_layer_is_as_far_from_float32_as_the_results(
    variant: str, backend: PipelineBackend, model: ImportedModel, images: Dataset
) -> None:
    compiled = backend.compile(variant)
    moves: list[tuple[int, int]] = []
    layers = compiled.compare_layers(images, lambda *move: moves.append(move[:2]))
    assert moves == [(1, 3), (2, 3), (3, 3)]
    reference = run_all(OnnxRuntime(model.proto), images, values=model.values)
    logits = run_all(compiled.networks(), images, values=model.values)
    wanted = measure(variant, logits, reference, None)
    assert wanted.sqnr_db is not None and wanted.centred_sqnr_db is not None
    last = layers[-1]
    assert last.kind == "dense" and last.sqnr_db is not None
    assert last.sqnr_db == pytest.approx(wanted.sqnr_db, abs=0.01)
    assert last.centred_sqnr_db == pytest.approx(wanted.centred_sqnr_db, abs=0.01)
    assert compiled.latency is not None
    assert [layer.name for layer in layers] == [x.name for x in compiled.latency.layers]
    assert [layer.cycles for layer in layers] == [x.cycles for x in compiled.latency.layers]


def facts(backend: PipelineBackend, images: Dataset, variant: str) -> dict[str, LayerFacts]:
    layers = backend.compile(variant).compare_layers(images, ignore)
    return {layer.name: layer for layer in layers}


def float_relu(model: ImportedModel, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the tensor after the first ReLU, from ONNX Runtime."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, None))
    return OnnxRuntime(proto)(image)


def test_scale_and_zero_point_are_the_tensors(
    backend: PipelineBackend, model: ImportedModel, images: Dataset
) -> None:
    for variant in ("profiled_fused", "per_tensor"):
        plan = backend.compile(variant).plan
        layer = facts(backend, images, variant)["stem"]
        assert plan is not None
        params = plan.tensors[layer.tensor]
        assert layer.scale == params.scale[0] and layer.zero_point == params.zero_point
        assert (layer.weight_bits, layer.activation_bits) == (8, 8)
        assert layer.macs == 4 * 3 * 9 * 64 and layer.weight_bytes == 4 * 3 * 9
        # What rounding the exact tensor alone loses is the least that the layer can lose.
        real = np.concatenate([float_relu(model, image) for image in images]).astype(np.float64)
        rounded = quantize(real, params).astype(np.float64) - params.zero_point
        noise = np.square(params.scale[0] * rounded - real).sum()
        best = 10 * np.log10(np.square(real).sum() / noise)
        assert layer.sqnr_db is not None and best - 6 < layer.sqnr_db < best + 1


def test_bits_of_weights_and_their_bytes(backend: PipelineBackend, images: Dataset) -> None:
    narrow = facts(backend, images, "w4a8")
    assert {layer.weight_bits for layer in narrow.values() if "conv2d" in layer.kind} <= {4, 8}
    for layer in narrow.values():
        if layer.weight_bits is not None:
            weights = {"conv2d": 4 * 3 * 9, "conv2d+sum_pool2d": 4 * 4 * 9, "dense": 20}[layer.kind]
            assert layer.weight_bytes == weights * layer.weight_bits // 8


def test_stock_relay_has_costs_but_no_float_tensors(images: Dataset, tmp_path: Path) -> None:
    model = import_model(save(tiny_model(extra=second()), tmp_path / "two.onnx"))
    backend = PipelineBackend(model, VTAConfig.load("default"))
    backend.calibrate(images, ignore)
    (conv, *_) = facts(backend, images, "stock_relay").values()
    # Stock's first convolution is on the host.
    assert conv.kind == "conv2d+sum_pool2d" and conv.cycles and conv.macs == 4 * 4 * 9 * 64
    assert conv.weight_bits == 8 and conv.weight_bytes == 4 * 4 * 9
    assert conv.sqnr_db is conv.scale is conv.zero_point is conv.activation_bits is None


def test_a_tensor_of_zeros_is_equal(images: Dataset, tmp_path: Path) -> None:
    proto = tiny_model()
    proto.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "stem.weight")
    )
    backend = PipelineBackend(
        import_model(save(proto, tmp_path / "zero.onnx")), VTAConfig.load("default")
    )
    backend.calibrate(images, ignore)
    conv = facts(backend, images, "profiled_fused")["stem"]
    assert conv.sqnr_db == conv.centred_sqnr_db == 300.0


def test_layers_are_the_same_after_engines_were_compared(
    backend: PipelineBackend, images: Dataset, tmp_path: Path
) -> None:
    compiled = backend.compile("per_tensor")
    before = compiled.compare_layers(images, ignore)  # with BLAS
    assert not compiled.verify(images, ignore).mismatches
    assert compiled.compare_layers(images, ignore) == before
