"""Architectures that people deploy run wholly on VTA, in as many cycles as planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.backend import PipelineBackend
from flow.data.datasets import image_folder
from flow.data.models import load_model, preprocessing_of
from flow.sim.tsim import TSim
from tests.flow.architectures import mobilenet_v2
from tests.flow.data.test_datasets import write_image
from tests.flow.onnx_models import save
from vta_config.hardware import VTAConfig


@pytest.mark.slow
def test_mobilenet_v2(tmp_path: Path, default_config: VTAConfig) -> None:
    model = load_model(str(save(mobilenet_v2(), tmp_path / "mobilenet_v2.onnx")))
    backend = PipelineBackend(model, default_config)
    write_image(tmp_path / "images" / "0.png", 100)
    backend.calibrate(image_folder(tmp_path / "images", preprocessing_of(model)), lambda *_: None)
    compiled = backend.compile("profiled_fused").model
    assert compiled.host.fallbacks == ()
    (program,) = compiled.programs
    timing = TSim(program).result
    assert timing.cycles <= 5_000_000
    layers = {layer.name: layer for layer in program.layers}
    for layer in timing.layers:
        if layers[layer.name].kind == "depthwise_conv2d":
            # Nine steps and the epilogue: clearing, bias, shift, two limits.
            _, channels, rows, columns = layers[layer.name].output.shape
            vectors = -(-channels // 16) * rows * columns
            assert layer.cycles <= 1.1 * (9 + 5) * vectors, layer.name
