"""The network as a graph."""

from __future__ import annotations

import re

import pytest

from flow.html import network
from flow.html.parts import Drawing, Legend, Lines
from flow.html.values import Missing, Values
from tests.flow.html.reports import HOSTILE, small_report


def test_boxes_and_edges() -> None:
    legend, drawing = network.parts(Values(small_report()))
    assert isinstance(legend, Legend) and isinstance(drawing, Drawing)
    assert [e.text for e in legend.entries] == [
        "on VTA: 4 layers", "on the host: 2 operators", "input of the network",
    ]  # fmt: skip
    assert drawing.label.startswith("Network of 4 layers on VTA and 2 operators on the host")
    svg = str(drawing.svg)
    assert svg.count('class="edge"') == 7 and svg.count("<rect") == 7
    assert svg.count('class="on-vta"') == 4 and svg.count('class="on-host"') == 2
    assert "conv2d → 1×8×4×4" in svg and "8 bits · 2^−2 · z −128" in svg
    assert "8 bits · 2^−3 to 0.3" in svg and ">float32 · output<" in svg
    assert "odd: nn.conv2d, on the host; 1×8×4×4; groups must be 1, got 2" in svg
    assert HOSTILE not in svg and "&lt;script&gt;" in svg
    left, top, width, height = map(
        float,
        re.search(r'viewBox="(\S+) (\S+) (\S+) (\S+)"', svg).groups(),  # type: ignore[union-attr]
    )
    for x, y in re.findall(r'<text x="([-\d.]+)" y="([-\d.]+)"', svg):
        assert left <= float(x) <= width and top <= float(y) <= height


def test_programs_are_named_where_there_are_several() -> None:
    report = small_report()
    assert "program vta_0" not in str(network.parts(Values(report))[1])
    report["details"]["graph"]["nodes"][2]["program"] = "vta_1"
    assert "on VTA, program vta_1" in str(network.parts(Values(report))[1])


def test_a_variant_without_scales() -> None:
    report = small_report()
    for tensor in report["details"]["graph"]["tensors"]:
        tensor["scale"] = []
    line = network.parts(Values(report))[-1]
    assert isinstance(line, Lines) and "no scales are known" in line.lines[0]


def test_no_graph() -> None:
    report = small_report()
    report["details"] |= {"graph": None, "left_out": {"graph": "conv1: must fit; use less"}}
    with pytest.raises(Missing, match=r"details.graph \(conv1: must fit; use less\)"):
        network.parts(Values(report))
    report = small_report()
    report["details"]["graph"]["nodes"] = []
    with pytest.raises(Missing, match="details.graph.nodes"):
        network.parts(Values(report))
