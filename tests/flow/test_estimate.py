"""An estimate needs no data, and its cycles are the cycle model's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.estimate import estimate
from flow.frontend.importer import import_model
from flow.options import Options
from flow.pipeline import Pipeline
from flow.stages import Stages
from relay_passes.variants import KEEP, STOCK_RELAY
from tests.flow import qdq_models
from tests.flow.onnx_models import save, tiny_model
from vta_config import VTAConfig
from vta_config.errors import ConfigError, UnsupportedModelError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx")


def test_cycles_are_those_of_a_deployment(model: Path, default_config: VTAConfig) -> None:
    stages = Stages()
    found = estimate(Options(model=str(model)), stages)
    assert list(stages.seconds) == ["import", "calibrate", "quantize", "compile", "time"]
    pipeline = Pipeline(import_model(model), default_config)
    rng = np.random.default_rng(7)  # other values, so that constants and shifts differ
    pipeline.calibrate([rng.normal(size=(1, 3, 8, 8)).astype(np.float32)])
    deployed = pipeline.compile(pipeline.quantize("profiled_fused"))
    assert found.cycles == sum(sim.cycles for sim in deployed.timed) > 0
    assert found.placement.vta_share == 1.0 and not found.placement.fallbacks
    assert found.placement.crossing_bytes == deployed.crossing_bytes
    assert found.arena_bytes == deployed.programs[0].arena_bytes > found.constant_bytes > 0
    (cost,) = found.programs
    assert cost.cycles == found.cycles and (found.round_trips, found.round_trip_bytes) == (0, 0)
    assert cost.layers == tuple(r.name for r in deployed.programs[0].layers)
    assert (found.model_name, found.input_shape) == ("tiny", (1, 3, 8, 8))
    assert (found.variant, found.data) == ("profiled_fused", "2 random tensors")


def test_a_variant_without_calibration(model: Path) -> None:
    found = estimate(Options(model=str(model)), Stages(), STOCK_RELAY)
    assert (found.variant, found.data) == (STOCK_RELAY, "nothing")
    assert found.cycles == 0 and found.placement.fallbacks  # without calibration all is float


def test_a_quantized_model_keeps_its_integers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    b = qdq_models.Builder()
    w = b.weight("conv.weight", rng.integers(-127, 128, (16, 3, 3, 3)).astype(np.int8), 2.0**-8)
    y = b.pair(b.node("Conv", [b.pair("x", 2.0**-5, 0, np.int8), w], "c"), 2.0**-4, 0, np.int8)
    b.node("Flatten", [b.node("GlobalAveragePool", [y], "p")], "y")
    path = save(qdq_models.model(b.nodes, b.tensors), tmp_path / "q.onnx")
    found = estimate(Options(model=str(path)), Stages())
    assert found.variant == KEEP and found.cycles > 0
    assert estimate(Options(model=str(path)), Stages(), "profiled_fused").cycles > 0


def test_another_machine(model: Path) -> None:
    wide = estimate(Options(model=str(model), config="block32"), Stages())
    assert wide.machine.block == 32
    with pytest.raises(ConfigError, match="neither a preset nor"):
        estimate(Options(model=str(model), config="nope"), Stages())
    with pytest.raises(UnsupportedModelError, match="must be an ONNX file"):
        estimate(Options(model="nope.onnx"), Stages())
