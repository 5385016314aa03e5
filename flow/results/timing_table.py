"""The timing of a program as tables for the terminal, narrow or wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from flow.results.fitted_table import FittedTable
from flow.sim.timing_report import (
    RESOURCES,
    LayerTiming,
    ModuleTiming,
    TimingResult,
    above_cell,
    percent_above,
)
from vta_config.text import shown_name

#: How modules spend their cycles: fields of `ModuleTiming` in words.
_SPENT: Final = {
    "busy": "computing or moving data",
    "memory": "waiting for memory",
    "wait_fetch": "waiting for FETCH",
    "wait_prev": "waiting for a token of the module before",
    "wait_next": "waiting for a token of the module after",
    "switch": "between instructions",
    "idle": "idle",
}


def timing_parts(result: TimingResult) -> list[RenderableType]:
    """Return the layers, the latency, and how the modules spend their cycles."""
    return [
        _layers(result),
        f"latency: {result.milliseconds:.2f} ms, timing profile {result.profile}\n"
        f"{percent_above(result.cycles, result.floor)} above the sum of the layers' rooflines, "
        f"{percent_above(result.cycles, result.full_floor)} above the sum of their full rooflines",
        _modules(result.modules),
    ]


def _layers(result: TimingResult) -> Table:
    """Return a row for each layer, in execution order, and one for all."""
    table = FittedTable(padding=0)
    table.add("layer", is_number=False)
    for heading, rank in (
        ("latency\n(cycles)", 0),
        ("GEMM\n(steps)", 4),
        ("GEMM\nuse (%)", 1),
        ("roofline\n(cycles)", 2),
        ("above\nroofline\n(%)", 0),
        ("full\nroofline\n(cycles)", 4),
        ("above full\nroofline\n(%)", 3),
    ):
        table.add(heading, rank=rank)
    table.add("bound\nby", is_number=False)
    for resource in RESOURCES:
        table.add(f"{resource} on\ncritical path\n(cycles)", rank=5)
    table.add("DRAM\ntraffic\n(KiB)", rank=1)
    table.add("instruc-\ntions", rank=4)

    def add(
        name: str, of: LayerTiming | TimingResult, bound: str, parts: Sequence[LayerTiming]
    ) -> None:
        steps = sum(layer.gemm_steps for layer in parts)
        table.add_row(
            Text(name),
            f"{of.cycles:,}",
            f"{steps:,}",
            f"{100 * steps / max(of.cycles, 1):.1f}",
            f"{of.floor:,}",
            above_cell(of.cycles, of.floor),
            f"{of.full_floor:,}",
            above_cell(of.cycles, of.full_floor),
            bound,
            *(f"{of.path[resource]:,}" for resource in RESOURCES),
            f"{sum(layer.bytes_moved for layer in parts) / 1024:,.0f}",
            f"{sum(layer.insns for layer in parts):,}",
        )

    for layer in result.layers:
        add(shown_name(layer.name), layer, layer.bound, [layer])
    table.add_section()
    add("all", result, "", result.layers)
    return table


def _modules(modules: Sequence[ModuleTiming]) -> Table:
    """Return how many cycles each module spends on what."""
    table = Table(header_style="bold")
    table.add_column("cycles of each module")
    for module in modules:
        table.add_column(module.name, justify="right")
    for field, words in _SPENT.items():
        table.add_row(words, *(f"{getattr(module, field):,}" for module in modules))
    return table
