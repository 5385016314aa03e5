"""Accuracy against latency, and the table of variants."""

from __future__ import annotations

import re

import pytest

from flow.html import svg, variants
from flow.html.parts import Charts, Lines, Table
from flow.html.values import Missing, Values
from tests.flow.html.reports import small_report


def test_charts_of_accuracy_and_sqnr() -> None:
    charts, note = variants.charts(Values(small_report()))
    assert isinstance(charts, Charts) and isinstance(note, Lines)
    first, second = charts.charts
    for name in ("profiled", "per_tensor", "best"):
        assert f">{name}*</text>" in first.wide and f">{name}*</text>" in second.narrow
    assert "top-1 accuracy (%)" in first.wide and "centred SQNR (dB)" in second.wide
    assert ">float32: 95.00</text>" in first.wide and "float32:" not in second.wide
    assert "best 95.00 at 0.018 ms" in first.wide  # for those who do not see it


def test_an_axis_ends_where_its_quantity_does() -> None:
    report = small_report()
    for own in report["variants"]:
        own["top1"] = None
        own["agreement"] = 1.0 if own["name"] == "best" else 0.6
    charts = variants.charts(Values(report))[0]
    assert isinstance(charts, Charts)
    ticks = [float(t) for t in re.findall(r'class="tick"[^>]*>([\d.]+)<', charts.charts[0].wide)]
    assert "agreement with float32 (%)" in charts.charts[0].wide
    assert max(ticks) == 100 and 60 in ticks


def test_points_that_are_alike() -> None:
    report = small_report()
    for own in report["variants"]:
        own |= {"top1": 1.0, "centred_sqnr_db": None}
        if own["latency"]:
            own["latency"]["ms"] = 1.0
    charts = variants.charts(Values(report))[0]
    assert isinstance(charts, Charts) and len(charts.charts) == 2
    assert "SQNR (dB)" in charts.charts[1].wide and "nan" not in charts.charts[0].wide


def test_nothing_has_a_latency() -> None:
    report = small_report()
    for own in report["variants"]:
        own["latency"] = None
    with pytest.raises(Missing, match="latency"):
        variants.charts(Values(report))


def test_table() -> None:
    table, lines = variants.table(Values(small_report()))
    assert isinstance(table, Table) and isinstance(lines, Lines)
    assert [row[0] for row in table.rows] == ["float32", "profiled", "per_tensor", "best"]
    assert table.marked == 3 and all(len(row) == len(table.columns) for row in table.rows)
    cells = dict(zip([c.heading for c in table.columns], table.rows[1], strict=True))
    assert cells["top-1 (%)"] == "90.00" and cells["Δ top-1 (points)"] == "−5.00 ± 3.21"
    assert cells["latency (ms)"] == "0.02*" and cells["MACs on VTA (%)"] == "75.00"
    assert cells["SQNR (dB)"] == "20.50" and cells["tensors that differ"] == "0"
    assert lines.lines == [
        "* The latency does not include the operators on the host.",
        "± in Δ top-1 is the 95 % confidence interval: a change within it may be due to the choice "
        "of images.",
        "w4a8 was not measured: conv1: must be something else.",
    ]


def test_table_of_a_network_that_is_no_classifier() -> None:
    report = small_report()
    for own in report["variants"]:
        own |= {"top1": None, "top5": None, "agreement": None, "latency": None, "exact": None}
        own |= {"sqnr_db": None}
    table = variants.table(Values(report))[0]
    assert isinstance(table, Table)
    assert not any("top-1" in c.heading or "agreement" in c.heading for c in table.columns)
    assert list(table.rows[3][2:]) == ["exact", "30.00", "–", "–", "75.00", "–"]
    with pytest.raises(Missing, match="variants"):
        variants.table(Values(report | {"variants": []}))


def test_the_chart_lies_within_its_frame() -> None:
    point = variants.Point(name="x" * 30, ms=1.0, value=99.9, partial=False, deployed=True)
    for size in (variants.WIDE, variants.NARROW):
        drawn = variants.scatter([point], "top-1 (%)", "label", size, 100.0, most=100.0)
        for x, y in re.findall(r'<text x="([-\d.]+)" y="([-\d.]+)"', drawn):
            assert 0 <= float(x) <= size[0] and 0 <= float(y) <= size[1]
    assert svg.number(3.0) == "3"
