"""Numbers as the page shows them."""

from __future__ import annotations

from math import isfinite
from typing import Final

from relay_passes.params import scale_text

#: What stands where there is no number.
NONE: Final = "–"
_MINUS: Final = "−"
#: A blank at which no line ends.
NO_BREAK: Final = "\u00a0"


def percent(share: float | None, digits: int = 2) -> str:
    """Return a share from 0 to 1 as a number of percent, without its sign."""
    return NONE if share is None else _signed(f"{100 * share:.{digits}f}")


def points(share: float | None, reference: float | None, margin: float | None = None) -> str:
    """Return the difference of two shares in percentage points, with its sign and its margin."""
    if share is None or reference is None:
        return NONE
    difference = round(100 * (share - reference), 2)
    text = _signed(f"{difference:+.2f}") if difference else "0.00"
    return text if margin is None else f"{text} ± {100 * margin:.2f}"


def tenths(value: float) -> str:
    """Return a number with one decimal; what rounds to 0 has no sign."""
    return _signed(f"{round(value, 1) or 0.0:.1f}")


def decibels(value: float | None) -> str:
    """Return an SQNR in dB, with a unit."""
    return NONE if value is None else f"{_signed(f'{value:.1f}')} dB"


def count(value: float | None) -> str:
    """Return a whole number with commas."""
    return NONE if value is None else _signed(f"{round(value):,}")


def more(value: float) -> str:
    """Return a whole number that is added, with its sign."""
    return _signed(f"{value:+,.0f}") if round(value) else "0"


def size(n_bytes: float | None) -> str:
    """Return a number of bytes with a unit that suits it: B, KiB, MiB."""
    if n_bytes is None:
        return NONE
    for unit, each in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n_bytes >= each:
            return f"{n_bytes / each:,.1f} {unit}"
    return f"{n_bytes:,.0f} B"


def milliseconds(value: float | None) -> str:
    """Return a time in ms, three digits at least."""
    if value is None:
        return NONE
    return f"{value:,.2f}" if value >= 1 else f"{value:.3g}"


def scale(values: list[float]) -> str:
    """Return a scale, or the smallest and the largest of several."""
    found = sorted(v for v in values if isfinite(v))
    if not found:
        return NONE
    low, high = scale_text(found[0]), scale_text(found[-1])
    return _signed(low if low == high else f"{low} to {high}")


def plural(number: float, thing: str) -> str:
    """Return a number of things: ``1 layer``, ``21 layers``."""
    return f"{number:,.0f} {thing}" if number == 1 else f"{number:,.0f} {thing}s"


def _signed(text: str) -> str:
    """Return a number with a minus sign as wide as the plus sign."""
    return text.replace("-", _MINUS)
