"""What each layer of a program costs."""

from __future__ import annotations

import numpy as np
import pytest

from flow.backend import PipelineBackend, PipelineCompiled
from flow.frontend.importer import import_model
from flow.results.counters import counters_by_layer
from flow.results.report import COUNTERS, GEMM_PARTS
from tests.flow.onnx_models import save, tiny_model
from vta_config import VTAConfig


@pytest.fixture(scope="module")
def compiled(
    default_config: VTAConfig, tmp_path_factory: pytest.TempPathFactory
) -> PipelineCompiled:
    model = import_model(save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx"))
    backend = PipelineBackend(model, default_config, engine="tsim")
    image = np.random.default_rng(0).normal(size=model.input_shape).astype(np.float32)
    backend.pipeline.calibrate([image])
    return backend.compile("profiled_fused")


def test_parts_sum_to_the_simulators_count(compiled: PipelineCompiled) -> None:
    (sim,) = compiled.model.simulators
    ours = counters_by_layer(sim)
    whole = sim.sim.counters()
    assert {k: sum(c[k] for c in ours.values()) for k in whole} == dict(whole)
    for counters in ours.values():
        assert sum(counters[part] for part in GEMM_PARTS) == counters["gemm_ops"]
    assert {key for layer in compiled.layers for key in layer.counters} == set(COUNTERS)


def test_convolution_steps_are_the_cycle_models(compiled: PipelineCompiled) -> None:
    ours = counters_by_layer(compiled.model.simulators[0])
    for layer in compiled.model.timed[0].result.layers:
        assert ours[layer.name]["gemm_conv_ops"] == layer.gemm_steps
