"""Histograms of activations and weights, with the integers that stand for their values."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Final

from markupsafe import Markup

from flow.html import svg, texts
from flow.html.details import of_details
from flow.html.parts import Entry, Figure, Gallery, Heading, Legend, Part
from flow.html.values import Missing, Values
from vta_config.text import shown_name

_SIZE: Final = (240.0, 92.0)
#: Histograms that are shown at once; the others are folded.
_OPEN: Final = 8
#: Integers up to which each is drawn as a line of the grid.
_LINES: Final = 33


def parts(report: Values) -> list[Part]:
    """Return a histogram for each quantized tensor.

    Raises
    ------
    Missing
        When the report does not hold them.
    """
    both = of_details(report, "histograms").part("histograms")
    activations, weights = both.parts("activations"), both.parts("weights")
    if not activations and not weights:
        raise Missing("details.histograms.weights")
    entries = [
        Entry(colour="h-bar", text="how often (logarithmic)"),
        Entry(colour="h-out", text="outside the integers: clipped"),
        Entry(
            colour="h-grid", text="smallest and largest integer; all of them where there are few"
        ),
    ]
    found: list[Part] = [Legend(entries)]
    for what, histograms, figure in (
        ("Activations, on calibration images", activations, _activation),
        ("Weights, as integers", weights, _weight),
    ):
        figures = [figure(h) for h in histograms]
        if figures:
            found += [Heading(what), Gallery(figures[:_OPEN])]
        if more := figures[_OPEN:]:
            found.append(Gallery(more, folded=f"{len(more):,} more histograms"))
    return found


def _activation(histogram: Values) -> Figure:
    scale, zero = histogram.numbers("scale"), histogram.number("zero_point")
    qmin, qmax = histogram.number("qmin"), histogram.number("qmax")
    step = max(scale, default=1.0)
    ends = (step * (qmin - zero), step * (qmax - zero))
    low, high, counts = _bins(histogram)
    grid = [step * (q - zero) for q in _integers(qmin, qmax)]
    lines = [
        f"{histogram.number('bits'):g} bits, scale {texts.scale(scale)}, "
        f"integers {qmin:g} to {qmax:g}".replace("-", "−"),
        f"{_share_outside(low, high, counts, ends)} of the values clipped; "
        f"the integers reach from {_real(ends[0])} to {_real(ends[1])}",
    ]
    return _figure(histogram, low, high, counts, ends, grid, lines)


def _weight(histogram: Values) -> Figure:
    qmin, qmax = histogram.number("qmin"), histogram.number("qmax")
    low, high, counts = _bins(histogram)
    total = sum(counts) or 1
    width = (high - low) / len(counts)
    edges = [low + k * width for k in range(len(counts) + 1)]
    zero = next((n for n, right in zip(counts, edges[1:], strict=True) if right > 0), 0)
    near = "are 0" if width < 1.5 else f"lie within {width:g} integers around 0"
    lines = [
        f"{histogram.number('bits'):g} bits, scale {texts.scale(histogram.numbers('scale'))}, "
        f"integers {qmin:g} to {qmax:g}".replace("-", "−"),
        f"{texts.percent(zero / total, 1)} % of {texts.plural(total, 'weight')} {near}",
    ]
    ends = (qmin - 0.5, qmax + 0.5)
    grid = [q + half for q in _integers(qmin, qmax) for half in (-0.5, 0.5)]
    return _figure(histogram, low, high, counts, ends, grid, lines)


def _bins(histogram: Values) -> tuple[float, float, list[float]]:
    low, high, counts = (
        histogram.number("low"),
        histogram.number("high"),
        histogram.numbers("counts"),
    )
    if not counts or high <= low:
        raise Missing("bins of a histogram")
    return low, high, counts


def _integers(qmin: float, qmax: float) -> Sequence[float]:
    """Return all integers where they are few enough to be seen, else the ends."""
    if qmax - qmin < _LINES:
        return [qmin + k for k in range(int(qmax - qmin) + 1)]
    return [qmin, qmax]


def _share_outside(
    low: float, high: float, counts: Sequence[float], ends: tuple[float, float]
) -> str:
    """Return how many values lie outside; those of a bin that an end cuts count as inside."""
    total, width = sum(counts) or 1, (high - low) / len(counts)
    outside = sum(
        n
        for k, n in enumerate(counts)
        if low + (k + 1) * width <= ends[0] or low + k * width >= ends[1]
    )
    share = outside / total
    return "none" if not share else "less than 0.01 %" if share < 1e-4 else f"{100 * share:.2f} %"


def _real(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _figure(
    histogram: Values,
    low: float,
    high: float,
    counts: Sequence[float],
    ends: tuple[float, float],
    grid: Sequence[float],
    lines: Sequence[str],
) -> Figure:
    width, height = _SIZE
    bottom = height - 16
    x = svg.Axis(low=low, high=high, start=2, end=width - 2)
    most = log10(1 + max(counts)) or 1.0
    drawn: list[Markup] = [
        svg.line(x.at(g), 2, x.at(g), bottom, "h-grid") for g in grid if low <= g <= high
    ]
    paths = {"h-bar": "", "h-out": ""}
    each = (high - low) / len(counts)
    for k, n in enumerate(counts):
        if n <= 0:
            continue
        left, right = low + k * each, low + (k + 1) * each
        # A bin that an end cuts has values on both sides.
        kind = "h-out" if right <= ends[0] or left >= ends[1] else "h-bar"
        up = (bottom - 4) * log10(1 + n) / most
        start, end = svg.number(x.at(left)), svg.number(x.at(right) - 0.4)
        paths[kind] += f"M{start} {svg.number(bottom)}V{svg.number(bottom - up)}H{end}V{bottom:g}Z"
    drawn += [svg.element("path", d=d, class_=kind) for kind, d in paths.items() if d]
    drawn.append(svg.line(0, bottom, width, bottom, "axis"))
    drawn.append(svg.text(2, height - 3, _real(low), "tick"))
    drawn.append(svg.text(width - 2, height - 3, _real(high), "tick", "end"))
    if low < 0 < high:
        drawn.append(svg.text(x.at(0), height - 3, "0", "tick", "middle"))
    name = shown_name(histogram.text("name"))
    label = f"Histogram of {name}: {'; '.join(lines)}"
    picture = svg.picture(width, height, label, *drawn, class_="histogram")
    return Figure(picture=picture, title=name, lines=lines)
