"""DRAM over the layers, and the scratchpads."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from flow.html import memory_map
from flow.html.parts import Drawing, Facts, Heading, Lines, Table
from flow.html.values import Missing, Values
from tests.flow.html.reports import HOSTILE, small_report


def test_sums_and_scratchpads() -> None:
    facts, table, _, drawing = memory_map.parts(Values(small_report()))
    assert isinstance(facts, Facts) and isinstance(table, Table) and isinstance(drawing, Drawing)
    assert dict(facts.facts) == {
        "DRAM": "8.0 KiB",
        "activations, which share it": "1.5 KiB",
        "weights and other constants": "6.5 KiB",
        "instructions, besides": "320 B",
    }
    assert table.rows[0] == [
        "inp: activations",
        "16.0 KiB",
        "32.0 KiB",
        "50.0",
        f"2.\u00a0{HOSTILE}",
    ]
    assert drawing.label.startswith("Memory of 3 layers: 4 tensors in 1.5 KiB of DRAM")


def test_the_map() -> None:
    svg = str(memory_map.parts(Values(small_report()))[-1].svg)  # type: ignore[union-attr]
    assert "data.q: 1.0 KiB at 0, from the start to layer 1" in svg
    assert "fc: 64 B at 512, from layer 3 to the end" in svg
    boxes = {
        kind: tuple(map(float, (x, y, w, h)))
        for kind, x, y, w, h in re.findall(
            r'class="m-(input|output)" x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', svg
        )
    }
    # The input lies at the bottom from the start on, over two columns; the output ends at the end.
    assert boxes["input"][0] == 64 and boxes["input"][1] + boxes["input"][3] > 263
    assert boxes["input"][2] == pytest.approx(boxes["output"][2], abs=0.1)
    assert boxes["output"][0] > boxes["input"][0] + boxes["input"][2]
    assert svg.count('class="m-pad"') == 6 and "2. &lt;script&gt;" in svg


def test_more_programs_than_maps() -> None:
    report = small_report()
    (one,) = report["details"]["memory"]
    report["details"]["memory"] = [
        one | {"symbol": f"vta_{k}", "total_bytes": 8192 + k} for k in range(6)
    ]
    found = memory_map.parts(Values(report))
    assert [p.text for p in found if isinstance(p, Heading)] == [
        f"Program vta_{k}" for k in range(2, 6)
    ]
    assert isinstance(found[-1], Lines) and found[-1].lines == ["2 smaller programs not shown."]
    report["details"]["memory"] = []
    with pytest.raises(Missing, match="program for VTA"):
        memory_map.parts(Values(report))


def test_many_layers_stay_readable() -> None:
    report = small_report()
    (one,) = report["details"]["memory"]
    one["layers"] = [f"l{k}" for k in range(400)]
    one["scratchpads"] = [{"name": "inp", "capacity_bytes": 100, "layer_bytes": list(range(400))}]
    svg = str(memory_map.parts(Values(report))[-1].svg)  # type: ignore[union-attr]
    width = float(re.search(r'<svg class="memory" viewBox="0 0 (\S+) ', svg)[1])  # type: ignore[index]
    assert width > 400 * 8
    numbers = [
        float(x) for x in re.findall(r'x="(\S+)" y="278" class="tick" text-anchor="mid', svg)
    ]
    assert len(numbers) > 50 and min(b - a for a, b in pairwise(numbers)) >= 20


def test_nothing_in_memory() -> None:
    report = small_report()
    (one,) = report["details"]["memory"]
    one |= {
        "regions": [],
        "layers": [],
        "scratchpads": [{"name": "inp", "capacity_bytes": 0, "layer_bytes": []}],
    }
    assert isinstance(memory_map.parts(Values(report))[-1], Drawing)
