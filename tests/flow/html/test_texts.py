"""Numbers as the page shows them."""

from __future__ import annotations

from flow.html import texts


def test_numbers() -> None:
    assert texts.percent(0.98765) == "98.77" and texts.percent(None) == "–"
    assert (texts.tenths(-0.04), texts.tenths(-0.06), texts.tenths(2.25)) == ("0.0", "−0.1", "2.2")
    assert texts.percent(-0.005, 1) == "−0.5"
    assert texts.points(0.95, 0.9) == "+5.00" and texts.points(0.9, 0.95) == "−5.00"
    assert texts.points(0.9, 0.9) == "0.00" and texts.points(0.9, None) == "–"
    assert texts.points(0.9, 0.95, 0.0123) == "−5.00 ± 1.23" and texts.points(None, 0.9, 0.1) == "–"
    assert texts.decibels(-3.25) == "−3.2 dB" and texts.decibels(None) == "–"
    assert texts.count(1234.4) == "1,234" and texts.count(None) == "–"
    assert [texts.more(n) for n in (1024, -96.0, 0, 0.2)] == ["+1,024", "−96", "0", "0"]
    assert texts.size(1023) == "1,023 B" and texts.size(1536) == "1.5 KiB"
    assert texts.size(3 << 20) == "3.0 MiB" and texts.size(None) == "–"
    assert texts.milliseconds(1234.567) == "1,234.57" and texts.milliseconds(0.01234) == "0.0123"
    assert texts.milliseconds(None) == "–"
    assert texts.plural(1, "layer") == "1 layer" and texts.plural(1200, "layer") == "1,200 layers"


def test_scales() -> None:
    assert texts.scale([0.25]) == "2^−2" and texts.scale([0.3, 0.1]) == "0.1 to 0.3"
    assert texts.scale([]) == "–" and texts.scale([float("inf")]) == "–"
