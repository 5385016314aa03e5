"""All variants: accuracy against latency, and the table of their measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from flow.html import svg, texts
from flow.html.parts import Chart, Charts, Column, Lines, Part, Table
from flow.html.values import Missing, Values

#: Width and height of a chart for a screen, and for a phone.
WIDE: Final = (560.0, 340.0)
NARROW: Final = (330.0, 320.0)
_FLOAT32: Final = "float32"
_MARGIN_MEANING: Final = (
    "± in Δ top-1 is the 95 % confidence interval: a change within it may be due to the choice of "
    "images."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A variant in a chart."""

    name: str
    ms: float
    value: float
    partial: bool
    deployed: bool


def charts(report: Values) -> list[Part]:
    """Return accuracy, and SQNR, against latency.

    Raises
    ------
    Missing
        When no variant has a latency.
    """
    variants, deployed = report.parts("variants"), report.maybe_text("deployed")
    drawn_charts: list[Chart] = []
    for key, name, is_share in (
        ("top1", "top-1 accuracy (%)", True),
        ("agreement", "agreement with float32 (%)", True),
        ("centred_sqnr_db", "centred SQNR (dB)", False),
        ("sqnr_db", "SQNR (dB)", False),
    ):
        found = _points(variants, key, deployed, factor=100 if is_share else 1)
        if not found or (is_share and drawn_charts):
            continue
        reference = None
        if key == "top1":
            own = next((v for v in variants if v.text("name") == _FLOAT32), None)
            share = None if own is None else own.maybe_number("top1")
            reference = None if share is None else 100 * share
        label = f"{name} against latency (ms), one point per variant: " + "; ".join(
            f"{p.name} {p.value:.2f} at {texts.milliseconds(p.ms)} ms" for p in found
        )
        drawn = [scatter(found, name, label, size, reference, most=100 if is_share else None)
                 for size in (WIDE, NARROW)]  # fmt: skip
        drawn_charts.append(Chart(wide=drawn[0], narrow=drawn[1]))
        if key == "centred_sqnr_db":  # which tells more than the other
            break
    if not drawn_charts:
        raise Missing("variants[].latency")
    parts: list[Part] = [Charts(drawn_charts)]
    if any(p.partial for p in _points(variants, "sqnr_db", deployed, factor=1)):
        parts.append(Lines(["* The latency does not include the operators on the host."]))
    return parts


def _points(
    variants: Sequence[Values], key: str, deployed: str | None, factor: float
) -> list[Point]:
    found = []
    for variant in variants:
        latency, value = variant.maybe_part("latency"), variant.maybe_number(key)
        if latency is None or value is None:
            continue
        name = variant.text("name")
        found.append(
            Point(
                name=name,
                ms=latency.number("ms"),
                value=factor * value,
                partial=latency.flag("partial"),
                deployed=name == deployed,
            )
        )
    return found


def scatter(
    points: Sequence[Point],
    name: str,
    label: str,
    size: tuple[float, float],
    reference: float | None,
    most: float | None,
) -> Markup:
    """Draw a point per variant.

    Parameters
    ----------
    points : sequence of Point
    name, label : str
        Of the vertical axis, and of the picture.
    size : (float, float)
        Width and height in pixels.
    reference : float, optional
        Of float32: a line.
    most : float, optional
        Where the quantity ends, and the axis with it.
    """
    width, height = size
    left, right, top, bottom = 52.0, width - 14, 26.0, height - 42
    values = [p.value for p in points] + ([] if reference is None else [reference])
    across = _padded([p.ms for p in points], least=0.0)
    up = _padded(values, least=0.0 if most is not None else None, most=most)
    x = svg.Axis(low=across[0], high=across[1], start=left, end=right)
    y = svg.Axis(low=up[0], high=up[1], start=bottom, end=top)
    parts = [svg.text(0, 14, name, "axis-name")]
    ticks = y.ticks(5)
    for tick in ticks:
        parts.append(svg.line(left, y.at(tick), right, y.at(tick), "grid"))
        parts.append(svg.text(left - 6, y.at(tick) + 4, svg.tick_text(tick, ticks), "tick", "end"))
    ticks = x.ticks(6 if width > 500 else 4)
    for tick in ticks:
        parts.append(svg.line(x.at(tick), bottom, x.at(tick), bottom + 4, "axis"))
        shown = svg.tick_text(tick, ticks)
        parts.append(svg.text(x.at(tick), bottom + 17, shown, "tick", "middle"))
    parts.append(svg.line(left, bottom, right, bottom, "axis"))
    parts.append(svg.text(right, bottom + 35, "latency per image (ms)", "axis-name", "end"))
    covered: list[tuple[float, float, float, float]] = []
    if reference is not None:
        at = y.at(reference)
        parts.append(svg.line(left, at, right, at, "reference"))
        base = at - 6 if at - top > 14 else at + 14
        told = f"float32: {reference:.2f}"
        parts.append(svg.text(left + 4, base, told, "note"))
        covered.append((left, base - 10, left + 4 + svg.LETTER * 12 * len(told), base + 2))
    drawn = [(x.at(p.ms), y.at(p.value)) for p in points]
    names = [p.name + ("*" if p.partial else "") for p in points]
    widths = [svg.LETTER * 12 * len(text) for text in names]
    order = sorted(range(len(points)), key=lambda k: not points[k].deployed)
    bounds = (left, top, right + 8, bottom)
    found = svg.places(
        [drawn[k] for k in order], [widths[k] for k in order], bounds, others=covered
    )
    for k, place in reversed([*zip(order, found, strict=True)]):  # the deployed one on top
        point, (u, v) = points[k], drawn[k]
        told = f"{point.name}: {point.value:.2f}, {texts.milliseconds(point.ms)} ms"
        of = "deployed" if point.deployed else "other"
        shape = svg.element("circle", svg.element("title", told), cx=u, cy=v, r=5, class_=of)
        parts.append(shape)
        if place is None:
            continue
        s, t = place
        end = min(max(u, s), s + widths[k])
        if abs(t - v) > 14:
            parts.append(svg.line(u, v, end, t + (5 if t < v else -6), "leader"))
        parts.append(svg.text(s, t + 4, names[k], "label strong" if point.deployed else "label"))
    return svg.picture(width, height, label, *parts, class_="scatter")


def _padded(
    values: Sequence[float], least: float | None = None, most: float | None = None
) -> tuple[float, float]:
    """Return a range around values, that ends where the quantity does."""
    low, high = min(values), max(values)
    pad = 0.12 * (high - low) or max(0.02 * abs(high), 0.01)
    low, high = low - pad, high + pad
    if least is not None:
        low = max(low, least)
    if most is not None:
        high = min(high, most)
    return (low, high) if low < high else (high - 1, high)


def table(report: Values) -> list[Part]:
    """Return the measurements of each variant.

    Raises
    ------
    Missing
        When there are no variants.
    """
    variants, deployed = report.parts("variants"), report.maybe_text("deployed")
    if not variants:
        raise Missing("variants")
    float32 = next((v for v in variants if v.text("name") == _FLOAT32), None)
    reference = None if float32 is None else float32.maybe_number("top1")
    labelled = any(v.maybe_number("top1") is not None for v in variants)
    classifier = any(v.maybe_number("agreement") is not None for v in variants)
    headings = ["variant", "images"]
    headings += ["top-1 (%)", "Δ top-1 (points)", "top-5 (%)"] if labelled else []
    headings += ["agreement with float32 (%)"] if classifier else []
    headings += ["SQNR (dB)", "centred SQNR (dB)", "latency (cycles)", "latency (ms)"]
    headings += ["MACs on VTA (%)", "tensors that differ"]
    rows: list[list[str | Markup]] = []
    marked = None
    for variant in variants:
        if variant.text("name") == deployed:
            marked = len(rows)
        rows.append(_row(variant, reference, labelled=labelled, classifier=classifier))
    parts: list[Part] = [
        Table(
            label="Measurements of each variant",
            columns=[Column(heading=h, numeric=k > 0) for k, h in enumerate(headings)],
            rows=rows,
            marked=marked,
        )
    ]
    skipped = report.maybe_parts("skipped") or []
    lines = [f"{s.text('variant')} was not measured: {s.text('reason')}." for s in skipped]
    if any(v.maybe_number("top1_change_margin") is not None for v in variants):
        lines.insert(0, _MARGIN_MEANING)
    if any((v.maybe_part("latency") or Values({})).flag("partial") for v in variants):
        lines.insert(0, "* The latency does not include the operators on the host.")
    return [*parts, *([Lines(lines)] if lines else [])]


def _row(
    variant: Values, reference: float | None, *, labelled: bool, classifier: bool
) -> list[str | Markup]:
    name = variant.text("name")
    own = name == _FLOAT32
    row: list[str | Markup] = [name, texts.count(variant.number("images"))]
    top1 = variant.maybe_number("top1")
    if labelled:
        margin = variant.maybe_number("top1_change_margin")
        row += [texts.percent(top1), "" if own else texts.points(top1, reference, margin)]
        row += [texts.percent(variant.maybe_number("top5"))]
    if classifier:
        row += ["" if own else texts.percent(variant.maybe_number("agreement"))]
    if own:
        return [*row, *([""] * 6)]
    sqnr, centred = variant.maybe_number("sqnr_db"), variant.maybe_number("centred_sqnr_db")
    row += ["exact" if sqnr is None else f"{sqnr:.2f}"]
    row += [texts.NONE if centred is None else f"{centred:.2f}"]
    latency = variant.maybe_part("latency")
    if latency is None:
        row += [texts.NONE, texts.NONE]
    else:
        mark = "*" if latency.flag("partial") else ""
        row += [f"{texts.count(latency.number('cycles'))}{mark}"]
        row += [f"{texts.milliseconds(latency.number('ms'))}{mark}"]
    row += [texts.percent(variant.maybe_inner("placement", "vta_mac_share"))]
    row += [texts.count(variant.maybe_inner("exact", "mismatches"))]
    return row
