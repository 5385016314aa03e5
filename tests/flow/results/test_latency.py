"""latency.py and counters.py on a small network: what reports say of time and operations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flow.backend import PipelineCompiled
from flow.results import latency as module
from flow.results.latency import can_plot, latency_of, write_pictures
from flow.sim.core_library import vta_modules
from flow.sim.tsim import TSim
from vta_config import VTAConfig
from vta_config.errors import ArtifactError


def test_latency_is_the_cycle_models(compiled: PipelineCompiled) -> None:
    latency = compiled.latency
    assert latency is not None
    (sim,) = compiled.model.timed
    assert latency.cycles == sim.cycles == sum(layer.cycles for layer in latency.layers)
    assert latency.ms == pytest.approx(1e3 * sim.cycles / compiled.model.config.clock_hz)
    assert latency.timing_profile == "chisel" and latency.engine == "tsim"
    assert [x.name for x in latency.layers] == [r.name for r in sim.program.layers]
    text = json.dumps(latency.to_json(), allow_nan=False)
    assert json.loads(text)["floor_cycles"] == latency.floor_cycles > 0


def test_engine_tsim_gives_the_same_bytes_and_the_same_cycles(
    compiled: PipelineCompiled, default_config: VTAConfig
) -> None:
    assert compiled.latency is not None
    (program,) = compiled.model.programs
    rng = np.random.default_rng(1)
    inputs = [rng.integers(-127, 128, p.shape).astype(np.int8) for p in program.inputs]
    functional = compiled.model.simulators[0].run(inputs)
    timed = compiled.model.timed[0].run(inputs)
    for ours, theirs in zip(timed.outputs, functional.outputs, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (network,) = compiled.networks()
    network(rng.normal(size=(1, 3, 8, 8)).astype(np.float32))  # which is when it is built
    (built,) = vta_modules(compiled.model.executable.mod)
    assert built["engine"]() == "tsim" and built["cycles"]() == compiled.latency.cycles


def test_nothing_on_the_machine_has_no_latency() -> None:
    assert latency_of([]) is None


def test_two_programs_add_up(compiled: PipelineCompiled, tmp_path: Path) -> None:
    (sim,) = compiled.model.timed
    second = TSim(replace(sim.program, symbol="vta_1"))
    both = latency_of([sim, second])
    assert both is not None and both.cycles == 2 * sim.cycles
    written = write_pictures([sim, second], tmp_path)
    assert {tmp_path / f"vta_{k}.trace.json" for k in (0, 1)} <= set(written)


def test_pictures_beside_the_report(compiled: PipelineCompiled, tmp_path: Path) -> None:
    written = compiled.draw(tmp_path / "new")
    assert sorted(written) == sorted((tmp_path / "new").iterdir())
    names = {path.name for path in written}
    assert "trace.json" in names and all(path.stat().st_size for path in written)
    if can_plot():
        assert names == {"trace.json"} | {
            f"{stem}.{suffix}" for stem in ("roofline", "layers") for suffix in ("png", "svg")
        }


def test_trace_without_matplotlib(
    compiled: PipelineCompiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "can_plot", lambda: False)
    assert [p.name for p in compiled.draw(tmp_path)] == ["trace.json"]
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


def test_folder_that_cannot_be_written(compiled: PipelineCompiled, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match=r"inside/trace.json: must be writable, got Not a dir"):
        compiled.draw(tmp_path / "file" / "inside")


# ---- counters ------------------------------------------------------------------------------------
