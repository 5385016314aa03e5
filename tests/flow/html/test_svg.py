"""SVG elements and axes."""

from __future__ import annotations

import pytest

from flow.html import svg


def test_elements_escape_what_they_hold() -> None:
    told = svg.element("text", "<a & b>", class_='x"y', stroke_width=1.504, x=None)
    assert told == '<text class="x&#34;y" stroke-width="1.5">&lt;a &amp; b&gt;</text>'
    assert svg.element("g", svg.element("i", "x")) == "<g><i>x</i></g>"
    picture = svg.picture(10, 20.5, "two <dots>", svg.line(0, 0, 1, 1, "grid"))
    assert 'viewBox="0 0 10 20.5"' in picture and 'aria-label="two &lt;dots&gt;"' in picture
    assert svg.path([(0, 1), (2.345, 3)], "p") == '<path d="M0 1L2.35 3" class="p"></path>'
    assert svg.number(12) == "12" and svg.number(0.5) == "0.5"


def test_shortened() -> None:
    assert svg.shortened("abcdef", 6) == "abcdef" and svg.shortened("abcdefg", 6) == "abc…fg"


def test_axes() -> None:
    axis = svg.Axis(low=0, high=10, start=100, end=0)
    assert axis.at(0) == 100 and axis.at(10) == 0 and axis.at(2.5) == 75
    assert axis.ticks(5) == [0, 2, 4, 6, 8, 10]
    assert svg.Axis(low=99.3, high=99.52, start=0, end=1).ticks(5) == pytest.approx(
        [99.3, 99.35, 99.4, 99.45, 99.5]
    )
    assert svg.Axis(low=3, high=3, start=0, end=10).at(3) == 5
    logarithmic = svg.Axis(low=1, high=100, start=0, end=100, logarithmic=True)
    assert logarithmic.at(10) == 50 and logarithmic.ticks(3) == [1, 10, 100]
    assert logarithmic.ticks(7) == [1, 2, 5, 10, 20, 50, 100]
    many = svg.Axis(low=1e-9, high=1e9, start=0, end=1, logarithmic=True).ticks(5)
    assert 2 <= len(many) <= 5


def test_texts_of_ticks() -> None:
    assert [svg.tick_text(v, [0, 2.5, 5]) for v in (0, 2.5, 5)] == ["0.0", "2.5", "5.0"]
    assert svg.tick_text(-3, [-3, 0]) == "−3" and svg.tick_text(20_000) == "20,000"
    assert svg.tick_text(0.25) == "0.25" and svg.tick_text(1, [0.99, 1.0]) == "1.00"
    assert svg.tick_text(0.025, [0, 0.025, 0.05]) == "0.025"


def test_labels_cover_nothing() -> None:
    points = [(50.0, 50.0), (52.0, 50.0), (200.0, 90.0)]
    widths = [40.0, 40.0, 60.0]
    found = svg.places(points, widths, (0, 0, 300, 200), others=[(0, 0, 300, 30)])
    boxes = [(x, y - 6, x + w, y + 6) for (x, y), w in zip(found, widths, strict=True)]  # type: ignore[misc]
    for k, a in enumerate(boxes):
        assert a[1] >= 30 and a[0] >= 0 and a[2] <= 300
        for b in boxes[k + 1 :]:
            assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]
        for x, y in points:
            assert not (a[0] < x < a[2] and a[1] < y < a[3])
    assert svg.places([(5, 5)], [500.0], (0, 0, 100, 100)) == [None]
