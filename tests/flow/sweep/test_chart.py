"""The pictures of a sweep: well-formed, labelled, a point for each machine."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from flow.sweep.chart import (
    NARROW,
    WIDE,
    axis_name,
    chart_style,
    chosen,
    colour_axis,
    colours_of,
    marked_rows,
    pairs_of,
    panel,
    picture,
    value_of,
    values_of,
)
from tests.flow.sweep.sweeps import sweep

SVG = "{http://www.w3.org/2000/svg}"


def test_a_picture_of_two_models() -> None:
    found = sweep("net", "<b>&net")
    text = picture(found)
    root = ElementTree.fromstring(text)
    words = [e.text for e in root.iter(f"{SVG}text")]
    assert "net: 5 machines, 2 on the Pareto front" in words
    assert "<b>&net: 5 machines, 2 on the Pareto front" in words
    assert (
        words.count("area by the model (mm²)") == words.count("latency of an image (ms)") / 2 == 2
    )
    # Two panels of five points each a model, and the points of its legend: two colours, two kinds.
    assert len(list(root.iter(f"{SVG}circle"))) == 2 * (2 * 5 + 4)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert root.attrib["viewBox"] == f"0 0 {width:g} {height:g}"
    for circle in root.iter(f"{SVG}circle"):
        assert 0 < float(circle.attrib["cx"]) < width
    assert all(len(word or "") < 140 for word in words)
    assert "prefers-color-scheme:dark" in text and chart_style()[:40] in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_points_lie_inside(size: tuple[float, float]) -> None:
    found = sweep()
    for pair in pairs_of(found):
        drawn = "".join(panel(found, found.rows, pair, size))
        root = ElementTree.fromstring(f"<svg>{drawn}</svg>")
        circles = list(root.iter("circle"))
        assert len(circles) == 5
        for circle in circles:
            assert 50 <= float(circle.attrib["cx"]) <= size[0] - 14
            assert 26 <= float(circle.attrib["cy"]) <= size[1] - 42
        titles = [e.text or "" for e in root.iter("title")]
        assert any(
            t.startswith("1: block 16, inp-buffer 32KiB, bus 64; 13 latency") for t in titles
        )


def test_the_choice_that_matters_most_gives_the_colour() -> None:
    found = sweep()
    assert colour_axis(found) == "block"
    assert colours_of(found) == {16: "m-0", 32: "m-1"}
    assert chosen(found.rows[0], "block") == 16 and chosen(found.rows[0], "config") == "default"
    assert values_of(found, "variant") == ["profiled_fused"]
    still = replace(found, effects=())
    assert colour_axis(still) == "" and colours_of(still) == {}
    assert panel(still, still.rows, ("latency", "area"), WIDE)


def test_what_is_named() -> None:
    found = sweep()
    marks = marked_rows(found, found.rows)
    assert [m.letter for m in marks] == ["A", "B"]
    assert marks[0].why.startswith("fastest") and marks[0].row.machine_id == 6
    assert any("smallest" in m.why and m.row.machine_id == 2 for m in marks)
    assert marked_rows(found, []) == []


def test_quantities_of_charts() -> None:
    found = sweep()
    assert pairs_of(found) == [("latency", "area"), ("latency", "energy"), ("latency", "accuracy")]
    assert pairs_of(replace(found, compared=("area", "energy"))) == [("area", "energy")]
    assert value_of(found.rows[0], "accuracy") == pytest.approx(90)
    assert axis_name(found.rows, "accuracy") == "top-1 (%)"
    assert axis_name(found.rows, "latency") == "latency of an image (ms)"
    without = sweep(accuracy=False)
    assert value_of(without.rows[0], "accuracy") is None
    assert axis_name(without.rows, "accuracy") == "accuracy (%)"


def test_nothing_to_draw() -> None:
    found = sweep()
    (words,) = panel(found, [], ("latency", "area"), WIDE)
    assert "nothing measured" in words
