"""What tests of results share: a small network, compiled and timed once."""

from __future__ import annotations

import numpy as np
import pytest

from flow.backend import PipelineBackend, PipelineCompiled
from flow.frontend.importer import import_model
from tests.flow.onnx_models import save, tiny_model
from vta_config import VTAConfig


@pytest.fixture(scope="package")
def compiled(
    default_config: VTAConfig, tmp_path_factory: pytest.TempPathFactory
) -> PipelineCompiled:
    model = import_model(save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx"))
    backend = PipelineBackend(model, default_config, engine="tsim")
    image = np.random.default_rng(0).normal(size=model.input_shape).astype(np.float32)
    backend.pipeline.calibrate([image])
    return backend.compile("profiled_fused")
