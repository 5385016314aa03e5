"""Architectures that people deploy run wholly on VTA, in as many cycles as planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flow.backend import PipelineBackend
from flow.data.datasets import image_folder
from flow.data.models import load_model, preprocessing_of
from flow.sim.tsim import TSim
from tests.flow.architectures import (
    densenet,
    mobilenet_v2,
    shufflenet,
    squeezenet,
    unet,
    yolo,
)
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


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["profiled_fused", "block_scales"])
@pytest.mark.parametrize("make", [squeezenet, densenet, unet, shufflenet, yolo])
def test_networks_that_move(
    make: Callable[[], Any], variant: str, tmp_path: Path, default_config: VTAConfig
) -> None:
    """Concatenations, slices, shuffles, enlargements: one program, exact on every engine."""
    model = load_model(str(save(make(), tmp_path / "network.onnx")))
    backend = PipelineBackend(model, default_config)
    for index in range(4):
        write_image(tmp_path / "images" / f"{index}.png", 50 * index)
    images = image_folder(tmp_path / "images", preprocessing_of(model))
    backend.calibrate(images, lambda *_: None)
    compiled = backend.compile(variant)
    assert compiled.model.host.fallbacks == ()
    assert len(compiled.model.programs) == 1
    exact = compiled.verify(images.take(2), lambda *_: None)
    assert exact.mismatches == 0, exact.first
    names = {layer.kind for layer in compiled.model.programs[0].layers}
    if make is squeezenet:
        assert "concat" not in names  # all is stored in place
