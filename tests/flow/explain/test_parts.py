"""Every cycle of a layer is told once, and bytes that are read again are."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.explain.explain import Compiled
from flow.explain.parts import covered, explained_layers
from flow.results.explanation import PARTS
from tests.flow.explain.networks import compiled, conv_net, gemm_bound


@pytest.mark.parametrize("config", ["default", "ultra96", "block32", "w4"])
def test_parts_add_up(tmp_path: Path, config: str) -> None:
    model = compiled(gemm_bound(), tmp_path, config).model
    (timed,) = model.timed
    found = explained_layers(timed)
    assert [layer.name for layer in found] == [layer.name for layer in timed.result.layers]
    for layer, timing in zip(found, timed.result.layers, strict=True):
        assert set(layer.parts) == set(PARTS) and min(layer.parts.values()) >= 0
        assert sum(layer.parts.values()) == layer.cycles == timing.cycles
        assert (layer.best_cycles, layer.bound) == (timing.floor, timing.bound)
        assert max(layer.compute_cycles, layer.bus_cycles) == timing.full_floor
        moved = {kind: reads.bytes for kind, reads in layer.reads.items()}
        for kind in ("inp", "wgt", "acc", "uop"):
            assert moved.get(kind, 0) == getattr(timing, f"{kind}_bytes")
        # The same resources as in the report, but for the cycles between instructions.
        path, parts = timing.path, layer.parts
        gemm = parts["gemm"] + parts["gemm_other"]
        assert gemm <= path["gemm"] and parts["alu"] <= path["alu"]
        assert parts["fetch"] == path["fetch"] and parts["out"] <= path["store"]


def test_what_bounds_is_what_is_known(on_bus: Compiled, on_gemm: Compiled) -> None:
    for layer in explained_layers(on_bus.model.timed[0]):
        assert layer.parts["wgt"] > 0.8 * layer.cycles and layer.bus_cycles > layer.gemm_cycles
        # 256 × 256 weights, and biases beside them: each once.
        assert 65536 <= layer.reads["wgt"].bytes == layer.reads["wgt"].distinct_bytes < 80000
    for layer in explained_layers(on_gemm.model.timed[0]):
        assert layer.parts["gemm"] > 0.5 * layer.cycles and layer.gemm_cycles > layer.bus_cycles


def test_bytes_that_are_read_again(tmp_path: Path) -> None:
    """Where a scratchpad holds few rows of a picture, those at edges of tiles are read twice."""
    model = compiled(conv_net((16, 16), size=64, kernel=3), tmp_path, "small").model
    (layer,) = explained_layers(model.timed[0])
    assert layer.reads["inp"].times > 1.05
    assert layer.reads["inp"].distinct_bytes <= 66 * 66 * 16


def test_bytes_count_once() -> None:
    assert covered([]) == 0
    assert covered([(0, 64), (32, 96), (64, 128)]) == 128  # 192 bytes read
    assert covered([(200, 210), (0, 100), (10, 20)]) == 110
