"""What each layer of a program costs."""

from __future__ import annotations

from flow.backend import PipelineCompiled
from flow.results.counters import counters_by_layer
from flow.results.report import COUNTERS, GEMM_PARTS


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
