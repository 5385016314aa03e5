"""Histograms with the integers that values become."""

from __future__ import annotations

import pytest

from flow.html import histograms
from flow.html.parts import Gallery, Heading
from flow.html.values import Missing, Values
from tests.flow.html.reports import HOSTILE, histogram, small_report


def galleries(report: dict[str, object]) -> list[Gallery]:
    return [p for p in histograms.parts(Values(report)) if isinstance(p, Gallery)]


def test_activations_and_weights() -> None:
    found = histograms.parts(Values(small_report()))
    assert [p.text for p in found if isinstance(p, Heading)] == [
        "Activations, on calibration images", "Weights, as integers",
    ]  # fmt: skip
    activations, weights = galleries(small_report())
    (activation,), (weight,) = activations.figures, weights.figures
    assert activation.lines == [
        "4 bits, scale 2^−2, integers −7 to 7",
        "none of the values clipped; the integers reach from −1.75 to 1.75",
    ]
    # Every integer of 4 bits is a line of the grid.
    assert str(activation.picture).count('class="h-grid"') == 15
    assert str(weight.picture).count('class="h-grid"') == 30
    assert weight.title == HOSTILE and weight.lines[1] == "61.9 % of 113 weights are 0"
    assert HOSTILE not in str(weight.picture)


def test_values_that_are_clipped() -> None:
    report = small_report()
    one = histogram("x", -4.0, 4.0, [10, 0, 100, 90, 0, 0, 0, 0]) | {"scale": [0.1]}
    report["details"]["histograms"] = {"activations": [one], "weights": []}
    (gallery,) = galleries(report)
    # Integers reach from -0.7 to 0.7; the bins are 1 wide: 100 and 90 lie at least partly outside.
    assert gallery.figures[0].lines[1].startswith("55.00 % of the values clipped")
    assert 'class="h-out"' in str(gallery.figures[0].picture)


def test_integers_of_eight_bits_share_bars() -> None:
    report = small_report()
    one = histogram("w", -127.5, 128.5, [1] * 64) | {"bits": 8, "qmin": -127, "qmax": 127}
    report["details"]["histograms"] = {"activations": [], "weights": [one]}
    (figure,) = galleries(report)[0].figures
    assert figure.lines[1] == "1.6 % of 64 weights lie within 4 integers around 0"


def test_many_are_folded() -> None:
    report = small_report()
    one = report["details"]["histograms"]["weights"][0]
    report["details"]["histograms"]["weights"] = [one] * 20
    assert [(len(g.figures), g.folded) for g in galleries(report)] == [
        (1, ""), (8, ""), (12, "12 more histograms"),
    ]  # fmt: skip


def test_nothing_to_show() -> None:
    report = small_report()
    report["details"]["histograms"] = {"activations": [], "weights": []}
    with pytest.raises(Missing, match="histograms"):
        histograms.parts(Values(report))
    report["details"]["histograms"]["weights"] = [histogram("w", 1.0, 1.0, [1])]
    with pytest.raises(Missing, match="bins of a histogram"):
        histograms.parts(Values(report))
