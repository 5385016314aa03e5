"""flow.results.timing_table: the timing of a program, in any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flow.results.timing_table import timing_parts
from flow.sim.timing_report import RESOURCES, ModuleTiming, TimingResult
from tests.flow.fakes import layer_timing


def result() -> TimingResult:
    path = dict.fromkeys(RESOURCES, 0)
    own = {"utilization": 0.0, "bound": "load", "path": path}
    name = "features.0.a_rather_long_name"
    layers = (
        layer_timing(name=name, cycles=1000, floor=800, full_floor=900, **own),
        layer_timing(name="[b]", cycles=234, floor=0, full_floor=0, **own),
    )
    module = dict.fromkeys(("memory", "wait_fetch", "wait_prev", "wait_next", "switch"), 0)
    return TimingResult(
        profile="chisel",
        gemm_step_cycles=1,
        cycles=1234,
        milliseconds=0.01234,
        layers=layers,
        modules=(
            ModuleTiming(name="LOAD", busy=1000, idle=234, **module),
            ModuleTiming(name="COMPUTE", busy=1200, idle=34, **module),
        ),
        path=path,
    )


def shown(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    for part in timing_parts(result()):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120, 250])
def test_every_line_fits_and_names_are_whole(width: int) -> None:
    lines = shown(width)
    assert max(map(len, lines)) <= width
    (row,) = (line for line in lines if "features.0.a_rather_long_name" in line)
    assert "1,000" in row and "25.0" in row  # cycles, above roofline
    assert any(line.startswith("│[b]") and "–" in line for line in lines)
    assert any(line.startswith("│all") and "1,234" in line for line in lines)
    assert any("LOAD" in line and "COMPUTE" in line for line in lines)
    assert any("computing or moving data" in x and "1,000" in x and "1,200" in x for x in lines)
    text = "\n".join(lines)
    assert "latency: 0.01 ms, timing profile chisel" in text
    assert "54.2% above the sum of the layers' rooflines" in text
    assert ("in a wider terminal also:" in text) is (width < 250)
