"""Cycles of layers and the roofline."""

from __future__ import annotations

import re

import pytest

from flow.html import layers
from flow.html.parts import Charts, Legend, Lines, Table
from flow.html.values import Missing, Values
from tests.flow.html.reports import HOSTILE, small_report


def test_cycles() -> None:
    legend, table, lines = layers.cycles(Values(small_report()))
    assert isinstance(legend, Legend) and isinstance(table, Table) and isinstance(lines, Lines)
    assert [e.colour for e in legend.entries] == [
        "r-gemm", "r-alu", "r-load", "r-sync", "k-floor", "k-full",
    ]  # fmt: skip
    first, second, _ = table.rows
    assert first[0] == "1.\u00a0conv1" and first[2:] == [
        "1,000", "55.6", "GEMM", "66.7", "53.8", "50.0", "4", "",
    ]  # fmt: skip
    # 700 cycles, a roofline of 800: said where it happens.
    assert second[0] == f"2.\u00a0{HOSTILE}" and second[5] == "−12.5" and second[-1] == layers.AHEAD
    assert lines.lines == [
        "On the critical path of the whole program: GEMM 55.0\u00a0%, LOAD 38.3\u00a0%, "
        "ALU 5.0\u00a0%, between instructions 1.7\u00a0%."
    ]
    bar = str(first[1])
    widths = dict(re.findall(r'class="(r-\w+)" x="[\d.]+" y="3" width="([\d.]+)"', bar))
    assert widths == {"r-gemm": "990", "r-sync": "10"}  # of the longest layer, 1,000 cycles
    assert "1,000 cycles: gemm 990, sync 10; roofline 600, full roofline 650" in bar


def test_cycles_of_an_older_release() -> None:
    report = small_report()
    for row in report["latency"]["layers"]:
        del row["path"]
    legend, table = layers.cycles(Values(report))
    assert isinstance(table, Table) and 'class="r-load"' in str(table.rows[1][1])
    assert isinstance(legend, Legend) and "r-sync" not in [e.colour for e in legend.entries]


def test_roofline() -> None:
    legend, charts, lines = layers.roofline(Values(small_report()))
    assert isinstance(charts, Charts) and isinstance(lines, Lines) and isinstance(legend, Legend)
    wide = charts.charts[0].wide
    assert "roof of the GEMM unit, 256 MACs per cycle" in wide
    assert "roof of the bus, 8 bytes per cycle" in wide
    # 500 steps of 256 MACs in 1,000 cycles; 3,392 bytes read
    assert "1. conv1: 128.0 MACs per cycle at 37.7 MACs per byte, bound by gemm" in wide
    assert lines.lines[0].startswith("Layer 2 lies above the roof: the operands were loaded")


def test_more_layers_above_the_roof() -> None:
    report = small_report()
    report["latency"]["layers"][0]["cycles"] = 500
    assert isinstance(line := layers.roofline(Values(report))[-1], Lines)
    assert line.lines[0].startswith("Layers 1, 2 lie above the roof")
    for row in report["latency"]["layers"]:
        row["cycles"] = 5000
    assert len(layers.roofline(Values(report))) == 2


def test_what_a_roofline_needs() -> None:
    report = small_report()
    report["latency"]["timing_profile"] = "of the future"
    with pytest.raises(Missing, match="timing profile of the future"):
        layers.roofline(Values(report))
    report = small_report()
    report["counters"]["layers"] = []
    with pytest.raises(Missing, match="gemm_conv_ops"):
        layers.roofline(Values(report))
    report["latency"]["layers"] = []
    with pytest.raises(Missing, match="latency.layers"):
        layers.cycles(Values(report))
