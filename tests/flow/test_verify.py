"""flow.verify: all engines on a small network, and how a difference is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flow.data.datasets import random_images
from flow.frontend.importer import import_model
from flow.pipeline import Pipeline
from flow.verify import Verifier
from tests.flow.onnx_models import save, tiny_model
from vta_config import VTAConfig


def test_engines_agree_and_another_result_is_told(
    default_config: VTAConfig, tmp_path: Path
) -> None:
    model = import_model(save(tiny_model(), tmp_path / "tiny.onnx"))
    pipeline = Pipeline(model, default_config)
    compiled = pipeline.compile(pipeline.quantize("single_scale"))
    network, images, moves = compiled.network(), random_images(model.input_shape, 2), []
    exact = Verifier(compiled, network).run(images, lambda *move: moves.append(move))
    assert (exact.images, exact.mismatches, exact.first) == (2, 0, "")
    assert exact.tensors > 2 * len(compiled.programs[0].layers) and moves == [(1, 2), (2, 2)]
    other = Verifier(compiled, lambda image: network(image) + np.float32(1))
    exact = other.run(images, lambda *move: None)
    assert exact.mismatches == 2
    assert exact.first.startswith("results of the executable, image 0: 5 of 5 values differ")
