"""What programs do for one image."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from flow.compiled_model import CompiledModel
from flow.frontend.importer import import_model
from flow.pipeline import Pipeline
from flow.results.latency import latency_of
from flow.results.report import COUNTERS
from flow.sweep.work import Work, work_of
from tests.flow.onnx_models import save, tiny_model
from vta_config import VTAConfig


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory, default_config: VTAConfig) -> CompiledModel:
    path = save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx")
    pipeline = Pipeline(import_model(path), default_config)
    rng = np.random.default_rng(0)
    pipeline.calibrate([rng.normal(size=(1, 3, 8, 8)).astype(np.float32)])
    return pipeline.compile(pipeline.quantize("profiled_fused"))


def test_it_is_what_the_simulators_count(compiled: CompiledModel) -> None:
    found, latency = work_of(compiled.timed), latency_of(compiled.timed)
    assert latency is not None
    counts = dict.fromkeys(COUNTERS, 0)
    for own in compiled.counters_by_layer().values():
        for key, value in own.items():
            counts[key] += value
    assert found.cycles == latency.cycles > 0
    assert found.data_bytes == sum(layer.bytes_moved for layer in latency.layers) > 0
    # The functional simulator counts by itself what it executes.
    assert (found.gemm_steps, found.alu_steps) == (counts["gemm_ops"], counts["alu_ops"])
    names = ("insns", "inp_bytes", "wgt_bytes", "acc_bytes", "uop_bytes", "out_bytes")
    assert [getattr(found, name) for name in names] == [counts[name] for name in names]
    assert found.alu_steps <= found.alu_reads <= 2 * found.alu_steps
    assert found.dram_bytes == found.data_bytes + 16 * found.insns
    assert 0 < found.useful_steps <= found.gemm_steps
    assert found.utilization == found.useful_steps / found.cycles
    assert 0 < found.bound_share <= 1


def test_nothing() -> None:
    found = work_of([])
    assert (found.cycles, found.dram_bytes, found.utilization, found.bound_share) == (0, 0, 0.0, 0)


def test_json(compiled: CompiledModel) -> None:
    found = work_of(compiled.timed)
    assert Work.from_json(asdict(found)) == found
    with pytest.raises(ValueError, match="not the fields of Work"):
        Work.from_json({})
    with pytest.raises(TypeError, match="cycles"):
        Work.from_json(asdict(found) | {"cycles": "1"})
