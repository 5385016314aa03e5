"""SVG elements as text, and the axes of charts. Colours are classes of ``style.css``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10
from typing import Final

from markupsafe import Markup, escape

#: Width of a letter by the size of the font, in a usual sans-serif font.
LETTER: Final = 0.56


def element(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """Return an element; texts and attributes are escaped, `Markup` stays as it is.

    Parameters
    ----------
    name : str
        Of the element.
    *children : str or Markup
        Its content.
    **attributes : str, float or None
        ``class_`` is ``class``, ``stroke_width`` is ``stroke-width``; None leaves one out.
    """
    # Plain strings, each escaped: `Markup.format` would take most of the time of a page.
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{told}>{''.join(map(str, map(escape, children)))}</{name}>")


def _value(value: str | float) -> str:
    return str(escape(value)) if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """Return a coordinate: two decimals are far below what can be seen."""
    text = f"{value:.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def picture(width: float, height: float, label: str, *children: str, class_: str = "") -> Markup:
    """Return an SVG image with a label for those who do not see it."""
    return element(
        "svg",
        *children,
        class_=class_ or None,
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
    )


def text(x: float, y: float, content: str, class_: str = "", anchor: str | None = None) -> Markup:
    """Return a line of text at a point of its baseline."""
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return a line through points."""
    told = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return element("path", d=f"M{told}", class_=class_)


def shortened(content: str, most: int) -> str:
    """Return at most `most` characters, the middle left out of more."""
    if len(content) <= most:
        return content
    tail = (most - 1) // 2
    return f"{content[: most - 1 - tail]}…{content[len(content) - tail :]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Numbers from `low` to `high` over the pixels from `start` to `end`.

    Parameters
    ----------
    low, high, start, end : float
    logarithmic : bool
        Then `low` is above 0.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a number."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = log10(low), log10(high), log10(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round numbers within the axis, about `most` at most."""
        if self.logarithmic:
            return _log_ticks(self.low, self.high, most)
        step = _round_step((self.high - self.low) / max(most, 1))
        first = ceil(self.low / step - 1e-9)
        last = floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5 and 5 times a power of ten that is not below `least`."""
    if least <= 0:
        return 1.0
    power = 10.0 ** floor(log10(least))
    return next(f * power for f in (1, 2, 2.5, 5, 10, 20) if f * power >= least * (1 - 1e-9))


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return powers of ten, and their doubles and fivefolds where there are few."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        found = [f * 10.0**d for d in decades for f in factors]
        found = [v for v in found if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
        if len(found) <= most:
            return found
    return found[:: ceil(len(found) / most)]


def tick_text(value: float, ticks: Sequence[float] = ()) -> str:
    """Return a number of an axis, with the decimals that tell its ticks apart."""
    if abs(value) >= 10_000:
        return f"{value:,.0f}".replace("-", "−")
    steps = [abs(b - a) for a, b in pairwise(ticks)]
    least = min((s for s in steps if s > 0), default=0.0)
    if not least:
        return f"{value:g}".replace("-", "−")
    decimals = max(0, -floor(log10(least) + 1e-9))
    if abs(least * 10**decimals - round(least * 10**decimals)) > 1e-6:  # a step of 2.5
        decimals += 1
    return f"{value:,.{decimals}f}".replace("-", "−")


def places(
    points: Sequence[tuple[float, float]],
    widths: Sequence[float],
    bounds: tuple[float, float, float, float],
    height: float = 12.0,
    others: Sequence[tuple[float, float, float, float]] = (),
) -> list[tuple[float, float] | None]:
    """Find a place for a text beside each point, where it covers no other and no point.

    Parameters
    ----------
    points : sequence of (x, y)
        In pixels.
    widths : sequence of float
        Of the texts.
    bounds : (left, top, right, bottom)
        What the texts must lie within.
    height : float
        Of a text.
    others : sequence of (left, top, right, bottom)
        What must not be covered besides.

    Returns
    -------
    list of (x, y) or None
        The left end of each text's middle line; None where there is no room.
    """
    taken = [*others, *((x - 5, y - 5, x + 5, y + 5) for x, y in points)]
    left, top, right, bottom = bounds
    found: list[tuple[float, float] | None] = []
    for (x, y), width in zip(points, widths, strict=True):
        chosen = None
        for away in range(8):
            up = 4 + height / 2 + away * height * 0.8
            sides = [(x + 9, y), (x - 9 - width, y)] if not away else []
            middle = [(x - width / 2, y - up), (x - width / 2, y + up)]
            aside = [(x + 9, y - up), (x + 9, y + up), (x - 9 - width, y - up)]
            for u, v in [*sides, *middle, *aside, (x - 9 - width, y + up)]:
                box = (u - 2, v - height / 2, u + width + 2, v + height / 2)
                inside = box[0] >= left and box[2] <= right and box[1] >= top and box[3] <= bottom
                if inside and not any(_overlap(box, other) for other in taken):
                    chosen = (u, v)
                    break
            if chosen is not None:
                taken.append(box)
                break
        found.append(chosen)
    return found


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
