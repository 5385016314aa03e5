"""Pictures of a sweep: what machines cost over their latency, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import log
from textwrap import wrap
from typing import Final

from markupsafe import Markup

from flow.html import svg
from flow.html.render import TEMPLATES
from flow.results.sweep_document import AxisValue, SweepFields, SweepRow
from flow.sweep.rows import CONFIG, UNPRICED, VARIANT
from flow.sweep.show import UNITS, choice_text, row_text, varying

#: Colours that there are.
COLOURS: Final = 6
#: Width and height of a panel for a screen, and for a phone; of a panel in the picture file.
WIDE: Final = (560.0, 360.0)
NARROW: Final = (330.0, 320.0)
_PANEL: Final = (424.0, 270.0)
#: From this ratio of the largest to the smallest number on, an axis is logarithmic.
_LOGARITHMIC: Final = 8.0
_WORDS: Final[Mapping[str, str]] = {
    "latency": "latency of an image",
    "area": "area by the model",
    "energy": "energy of an image by the model",
}
#: The colours of `style.css`, for a picture that is a file of its own.
_LIGHT: Final = (
    "--page:#fff;--ink:#1a1d21;--soft:#545b64;--line:#d4d8dd;--gemm:#0072b2;--alu:#e69f00;"
    "--load:#009e73;--store:#cc79a7;--fetch:#d55e00;--sync:#8a8f98"
)
_DARK: Final = (
    "--page:#14171b;--ink:#eceff3;--soft:#a9b2bd;--line:#3a424c;--gemm:#4da3dd;--alu:#f0b440;"
    "--load:#35c49a;--store:#dd9cc2;--fetch:#ef8a45;--sync:#9aa2ad"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A row that a picture names.

    Parameters
    ----------
    letter : str
    why : str
        Such as "fastest".
    row : SweepRow
    """

    letter: str
    why: str
    row: SweepRow


def pairs_of(found: SweepFields) -> list[tuple[str, str]]:
    """Return the quantities of the axes of each panel: latency across, another one up."""
    names = [name for name in found.compared if name not in ("latency", *UNPRICED)]
    if "latency" not in found.compared:
        return [*pairwise(names)]
    return [("latency", name) for name in names]


def value_of(row: SweepRow, quantity: str) -> float | None:
    """Return a compared number of a measured row; an accuracy as a percentage or in dB."""
    if quantity == "accuracy":
        accuracy = row.accuracy
        if accuracy is None or accuracy.value is None:
            return None
        return accuracy.value * (100 if accuracy.quantity in ("top-1", "agreement") else 1)
    assert row.area is not None and row.energy is not None
    return {"latency": row.ms, "area": row.area.mm2, "energy": row.energy.mj}[quantity]


def axis_name(rows: Sequence[SweepRow], quantity: str) -> str:
    """Return the name of an axis of a chart, with its unit."""
    if quantity != "accuracy":
        return f"{_WORDS[quantity]} ({UNITS[quantity]})"
    own = next((row.accuracy for row in rows if row.accuracy is not None), None)
    name = "accuracy" if own is None else own.quantity
    return f"{name} ({'dB' if 'SQNR' in name else '%'})"


def colour_axis(found: SweepFields) -> str:
    """Return the choice that changes latency most, of those with few values: it gives the colour.

    "" where nothing varies.
    """
    sizes: dict[str, float] = {}
    for effect in found.effects:
        factor = effect.factors.get("latency")
        if factor and effect.axis in (*varying(found), VARIANT):
            sizes[effect.axis] = max(sizes.get(effect.axis, 0.0), abs(log(factor)))
    few = {a: s for a, s in sizes.items() if 2 <= len(values_of(found, a)) <= COLOURS}
    return max(few, key=lambda axis: few[axis], default="")


def values_of(found: SweepFields, axis: str) -> list[AxisValue]:
    """Return the values of an axis, in its order."""
    if axis == VARIANT:
        return list(dict.fromkeys(row.variant for row in found.rows))
    return list(found.axes.get(axis, ()))


def chosen(row: SweepRow, axis: str) -> AxisValue:
    """Return what a row has chosen in an axis, machines and variants included."""
    return {CONFIG: row.config, VARIANT: row.variant, **row.choices}[axis]


def colours_of(found: SweepFields) -> dict[AxisValue, str]:
    """Return the class that colours each value of the axis of colours; {} where there is none."""
    values = values_of(found, axis) if (axis := colour_axis(found)) else []
    return {value: f"m-{k}" for k, value in enumerate(values)}


def marked_rows(found: SweepFields, rows: Sequence[SweepRow]) -> list[Marked]:
    """Return the rows that a picture names: the best in each quantity, and in all together."""
    best = [row for row in rows if row.on_front]
    wishes = [("fastest", "latency"), ("smallest", "area"), ("least energy", "energy")]
    found_rows: dict[int, tuple[list[str], SweepRow]] = {}

    def note(why: str, row: SweepRow) -> None:
        found_rows.setdefault(id(row), ([], row))[0].append(why)

    for why, quantity in wishes:
        if best and quantity in found.compared:
            note(why, min(best, key=lambda row: _positive(value_of(row, quantity))))
    costs = [q for _, q in wishes if q in found.compared]
    if len(costs) > 1 and best:
        names = " × ".join(costs)
        note(
            f"least {names}",
            min(best, key=lambda row: sum(log(_positive(value_of(row, q))) for q in costs)),
        )
    return [
        Marked(letter="ABCD"[k], why=", ".join(why), row=row)
        for k, (why, row) in enumerate(found_rows.values())
    ]


def _positive(value: float | None) -> float:
    return max(value or 0.0, 1e-12)


# ---- one panel -----------------------------------------------------------------------------------
def panel(
    found: SweepFields,
    rows: Sequence[SweepRow],
    pair: tuple[str, str],
    size: tuple[float, float],
    *,
    titles: bool = True,
) -> list[Markup]:
    """Return the elements of a chart of the measured rows of one model.

    Parameters
    ----------
    found : SweepFields
    rows : sequence of SweepRow
    pair : (str, str)
        The quantities across and up.
    size : (float, float)
        Width and height in pixels.
    titles : bool
        Whether each point says what it is when it is pointed at.
    """
    width, height = size
    left, right, top, bottom = 50.0, width - 14, 26.0, height - 42
    measured = [r for r in rows if r.state == "measured" and None not in _values(r, pair)]
    measured.sort(key=lambda row: bool(row.on_front))  # the front on top
    points = [(float(_values(r, pair)[0] or 0), float(_values(r, pair)[1] or 0)) for r in measured]
    if not points:
        return [svg.text(left, top + 20, "nothing measured", "about")]
    x = _axis([u for u, _ in points], left, right)
    y = _axis([v for _, v in points], bottom, top, linear=pair[1] == "accuracy")
    parts = [svg.text(0, 14, axis_name(measured, pair[1]), "axis-name")]
    ticks = y.ticks(6)
    for tick in ticks:
        parts.append(svg.line(left, y.at(tick), right, y.at(tick), "grid"))
        shown = svg.tick_text(tick, [] if y.logarithmic else ticks)
        parts.append(svg.text(left - 6, y.at(tick) + 4, shown, "tick", "end"))
    ticks = x.ticks(8 if width > 400 else 5)
    for tick in ticks:
        parts.append(svg.line(x.at(tick), top, x.at(tick), bottom, "grid"))
        shown = svg.tick_text(tick, [] if x.logarithmic else ticks)
        parts.append(svg.text(x.at(tick), bottom + 16, shown, "tick", "middle"))
    parts.append(svg.line(left, bottom, right, bottom, "axis"))
    parts.append(svg.text(right, bottom + 33, axis_name(measured, pair[0]), "axis-name", "end"))
    drawn = [(x.at(u), y.at(v)) for u, v in points]
    parts.append(svg.path(_steps(points, x, y, more=pair[1] == "accuracy"), "steps"))
    colours, axis, axes = colours_of(found), colour_axis(found), varying(found)
    for row, (u, v), (a, b) in zip(measured, drawn, points, strict=True):
        colour = colours.get(chosen(row, axis), "m-0") if axis else "m-0"
        kind, radius = ("best", 4.2) if row.on_front else ("beaten", 3.0)
        told = f"{row.machine_id}: {row_text(row, axes)}; {a:,.4g} {pair[0]}, {b:,.4g} {pair[1]}"
        title = [svg.element("title", told)] if titles else []
        parts.append(svg.element("circle", *title, cx=u, cy=v, r=radius, class_=f"{colour} {kind}"))
    return [*parts, *_letters(found, rows, measured, drawn, (left, top, right, bottom))]


def _values(row: SweepRow, pair: tuple[str, str]) -> tuple[float | None, float | None]:
    return value_of(row, pair[0]), value_of(row, pair[1])


def _axis(values: Sequence[float], start: float, end: float, *, linear: bool = False) -> svg.Axis:
    """Return an axis with room at both ends, logarithmic for numbers that differ by much."""
    low, high = min(values), max(values)
    if linear or low <= 0 or high / low < _LOGARITHMIC:
        room = 0.06 * (high - low) or max(0.02 * abs(high), 0.01)
        top = max(high, min(high + room, 100.0)) if linear and high <= 100 else high + room
        return svg.Axis(low=low - room, high=top, start=start, end=end)
    room = max((high / low) ** 0.06, 1.02)
    return svg.Axis(low=low / room, high=high * room, start=start, end=end, logarithmic=True)


def _steps(
    points: Sequence[tuple[float, float]], x: svg.Axis, y: svg.Axis, *, more: bool
) -> list[tuple[float, float]]:
    """Return the line along the points that none beats in these two quantities."""
    line: list[tuple[float, float]] = []
    for u, v in sorted(points, key=lambda p: (p[0], -p[1] if more else p[1])):
        at = (x.at(u), y.at(v))
        if not line:
            line = [(at[0], y.end), at]
        elif at[1] < line[-1][1] if more else at[1] > line[-1][1]:
            line += [(at[0], line[-1][1]), at]
    return [*(line[1:] if more else line), (x.end, line[-1][1])]


def _letters(
    found: SweepFields,
    rows: Sequence[SweepRow],
    measured: Sequence[SweepRow],
    drawn: Sequence[tuple[float, float]],
    bounds: tuple[float, float, float, float],
) -> list[Markup]:
    """Return the letters of the named rows, beside their points."""
    by_row = {id(row): place for row, place in zip(measured, drawn, strict=True)}
    marks = [m for m in marked_rows(found, rows) if id(m.row) in by_row]
    at = [by_row[id(m.row)] for m in marks]
    places = svg.places(at, [9.0] * len(at), bounds)
    parts = []
    for mark, place in zip(marks, places, strict=True):
        if place is not None:
            parts.append(svg.text(place[0], place[1] + 4, mark.letter, "mark"))
    return parts


# ---- the picture file ----------------------------------------------------------------------------
def picture(found: SweepFields) -> str:
    """Return all charts of a sweep as one SVG file, light or dark as the reader's system is."""
    width_of, height_of = _PANEL
    pairs = pairs_of(found)[:2] or [("latency", "latency")]
    width = len(pairs) * width_of + 16 * (len(pairs) - 1) + 24
    parts, y = [], 16.0
    for model in found.models:
        rows = [row for row in found.rows if row.model == model.name]
        y += 12
        parts.append(svg.text(12, y, _title(rows, model.name), "title"))
        parts += _legend(found, 12, y + 20)
        y += 36
        for k, pair in enumerate(pairs):
            inside = panel(found, rows, pair, _PANEL, titles=False)
            place = f"translate({svg.number(12 + k * (width_of + 16))} {svg.number(y)})"
            parts.append(svg.element("g", *inside, transform=place))
        y += height_of + 14
        axes = varying(found)
        for mark in marked_rows(found, rows):
            row = mark.row
            assert row.area is not None and row.energy is not None
            told = f"{mark.why}: {row.ms:,.4g} ms, {row.area.mm2:.3g} mm², {row.energy.mj:.3g} mJ; "
            parts.append(svg.text(12, y, mark.letter, "mark"))
            letters = int((width - 40) / (svg.LETTER * 12))
            for line in wrap(told + row_text(row, axes), letters, break_on_hyphens=False):
                parts.append(svg.text(28, y, line, "about"))
                y += 16
        y += 14
    label = "; ".join(
        _title([r for r in found.rows if r.model == m.name], m.name) for m in found.models
    )
    style = Markup("<style>{}</style>").format(Markup(_file_style()))
    ground = svg.element("rect", width=width, height=y, class_="ground")
    drawn = svg.picture(width, y, label, style, ground, *parts, class_="machines")
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


@cache
def chart_style() -> str:
    """Return the style of the charts; its colours are those of the page."""
    return (TEMPLATES / "machines.css").read_text(encoding="utf-8")


def _file_style() -> str:
    dark = f"@media (prefers-color-scheme:dark){{svg{{{_DARK}}}}}"
    return f"svg{{{_LIGHT}}}{dark}.ground{{fill:var(--page)}}{chart_style()}"


def _title(rows: Sequence[SweepRow], name: str) -> str:
    measured = sum(row.state == "measured" for row in rows)
    best = sum(bool(row.on_front) for row in rows)
    return f"{svg.shortened(name, 40)}: {measured:,} machines, {best:,} on the Pareto front"


def _legend(found: SweepFields, x: float, y: float) -> list[Markup]:
    """Return what colours and kinds of points mean, in one line."""
    axis = colour_axis(found)
    parts: list[Markup] = []
    if axis:
        parts.append(svg.text(x, y, axis, "about"))
        x += 10 + 7 * len(axis)
        for value, colour in colours_of(found).items():
            told = choice_text(axis, value)
            parts.append(svg.element("circle", cx=x + 5, cy=y - 4, r=4.2, class_=colour))
            parts.append(svg.text(x + 13, y, told))
            x += 21 + 7.5 * len(told)
    for kind, told in (("best", "on the front"), ("beaten", "dominated")):
        x += 8
        radius = 4.2 if kind == "best" else 3.0
        parts.append(svg.element("circle", cx=x + 5, cy=y - 4, r=radius, class_=f"m-5 {kind}"))
        parts.append(svg.text(x + 13, y, told, "about"))
        x += 17 + 7 * len(told)
    parts.append(svg.line(x + 8, y - 4, x + 30, y - 4, "steps"))
    parts.append(svg.text(x + 36, y, "best of the two quantities shown", "about"))
    return parts
