"""The table, CSV and JSON of an estimate, from numbers made by hand."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flow.results.estimate import (
    COLUMNS,
    Estimate,
    ProgramCost,
    csv_text,
    json_text,
    render,
    write_estimate,
)
from flow.results.latency import Latency
from flow.results.placement import Placement
from relay_passes.partition.host_work import Fallback
from tests.flow.fakes import layer_timing
from vta_config import VTAConfig
from vta_config.errors import ArtifactError

FALLBACKS = (
    Fallback(name="lv3", operator="nn.softmax", reason="no integers", node="probs"),
    Fallback(name="lv1", operator="split", reason="moves data", node="split_1"),
    Fallback(name="lv2", operator="concat", reason="moves data", node="cat"),
)


def program(symbol: str, names: tuple[str, ...], cycles: int) -> ProgramCost:
    return ProgramCost(
        symbol=symbol,
        cycles=cycles,
        layers=names,
        kinds=("conv2d",) * len(names),
        input_bytes=100,
        output_bytes=10,
        arena_bytes=5000,
    )


@pytest.fixture
def estimate(default_config: VTAConfig) -> Estimate:
    timings = tuple(
        layer_timing(
            name=name,
            cycles=cycles,
            gemm_steps=steps,
            utilization=steps / cycles,
            bound="load",
            floor=steps,
            full_floor=steps,
            inp_bytes=5,
        )
        for name, cycles, steps in (("a", 3000, 1500), ("b|[x]", 1000, 0), ("c", 6000, 3000))
    )
    latency = Latency(timing_profile="chisel", cycles=10000, ms=0.1, layers=timings)
    return Estimate(
        model_name="net",
        model_sha256="0123456789abcdef",
        input_shape=(1, 3, 8, 8),
        machine=default_config,
        variant="profiled_fused",
        data="2 random tensors",
        latency=latency,
        placement=Placement(
            programs=2, crossing_bytes=220, macs=2_000_000, vta_macs=1_500_000, fallbacks=FALLBACKS
        ),
        programs=(program("vta_0", ("a", "b|[x]"), 4000), program("vta_1", ("c",), 6000)),
        scratchpad_bytes={"inp": 10, "wgt": 20, "acc": 30, "uop": 40},
        scratchpad_capacity={"inp": 32768, "wgt": 262144, "acc": 131072, "uop": 32768},
        constant_bytes=900,
        seconds=1.25,
    )


def shown(estimate: Estimate) -> str:
    console = Console(width=200, file=io.StringIO(), color_system=None)
    console.print(render(estimate))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_totals(estimate: Estimate) -> None:
    assert (estimate.cycles, estimate.frames_per_s) == (10000, 10000.0)
    assert estimate.utilization == 0.45
    assert estimate.arena_bytes == 10000
    assert (estimate.round_trips, estimate.round_trip_bytes) == (1, 110)
    assert estimate.dram_bytes == sum(x.bytes_moved for x in estimate.timings)


def test_table(estimate: Estimate) -> None:
    lines = shown(estimate).splitlines()
    assert lines[0] == "model        net  (sha256 0123456789ab…), input 1×3×8×8"
    assert lines[3] == (
        "latency      operators on VTA only: 10,000 cycles, 0.100 ms, 10,000.0 frames/s (timing "
        "profile chisel)"
    )
    assert lines[4] == "MACs on VTA  75.00% of 2.00 M"
    assert lines[7].endswith("wgt 20 of 262,144, acc 30 of 131,072, uop 40 of 32,768 bytes at most")
    assert lines[8] == (
        "programs     2; 1 round trips to the host between them, 110 bytes; 220 bytes copied in all"
    )
    assert [line.strip() for line in lines[9:12]] == [
        "on host      3 operators, not included in the latency:",
        "2 × moves data: split_1 (split), cat (concat)",
        "1 × no integers: probs (nn.softmax)",
    ]
    rows = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    assert rows == ["c", "a", "b|[x]"]  # most cycles first


def test_all_on_vta_and_nothing_on_vta(estimate: Estimate) -> None:
    whole = replace(estimate, placement=replace(estimate.placement, fallbacks=()))
    assert "on host      only quantizing the input and dequantizing the outputs" in shown(whole)
    assert "latency      10,000 cycles" in shown(whole)
    none = replace(
        estimate,
        latency=None,
        programs=(),
        placement=replace(estimate.placement, programs=0, crossing_bytes=0, vta_macs=0),
    )
    assert "latency      nothing runs on VTA" in shown(none)
    assert (none.cycles, none.utilization, none.round_trip_bytes) == (0, 0.0, 0)
    assert json.loads(json_text(none))["frames_per_s"] is None
    assert csv_text(none).splitlines()[1:] == ["total,,,0,0.0,0,0.0,,0,0,0,0,0,0,0"]


def test_csv_has_a_line_for_each_layer(estimate: Estimate) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(estimate))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["layer"] for row in rows] == ["a", "b|[x]", "c", "total"]
    assert [row["program"] for row in rows] == ["vta_0", "vta_0", "vta_1", ""]
    assert [row["cycles"] for row in rows] == ["3000", "1000", "6000", "10000"]
    assert [row["share_of_cycles"] for row in rows] == ["0.3", "0.1", "0.6", "1.0"]
    assert rows[3]["gemm_steps"] == "4500" and rows[3]["gemm_utilization"] == "0.45"
    assert int(rows[3]["inp_bytes"]) == sum(int(row["inp_bytes"]) for row in rows[:3])


def test_json(estimate: Estimate) -> None:
    values = json.loads(json_text(estimate))
    assert values["cycles"] == 10000 and values["partial"] is True
    assert values["vta_mac_share"] == 0.75 and values["gemm_utilization"] == 0.45
    assert values["fallbacks"] == [
        {"reason": "moves data", "operators": [f.label for f in FALLBACKS[1:]]},
        {"reason": "no integers", "operators": [FALLBACKS[0].label]},
    ]
    assert values["scratchpads"]["acc"] == {"peak_bytes": 30, "capacity_bytes": 131072}
    assert [p["symbol"] for p in values["programs"]] == ["vta_0", "vta_1"]
    assert [layer["layer"] for layer in values["layers"]] == ["a", "b|[x]", "c"]


def test_files(estimate: Estimate, tmp_path: Path) -> None:
    paths = write_estimate(estimate, tmp_path / "out")
    assert [path.name for path in paths] == ["estimate.json", "estimate.csv"]
    assert paths[1].read_text() == csv_text(estimate)
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="file"):
        write_estimate(estimate, tmp_path / "file")
