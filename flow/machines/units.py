"""Numbers with units, as users write them: ``32KiB``, ``100MHz``, ``10ms``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from vta_config.errors import ConfigError

SIZES: Final[Mapping[str, float]] = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
}
FREQUENCIES: Final[Mapping[str, float]] = {"Hz": 1, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9}
TIMES: Final[Mapping[str, float]] = {"s": 1, "ms": 1e-3, "us": 1e-6}
AREAS: Final[Mapping[str, float]] = {"mm2": 1, "um2": 1e-6}
ENERGIES: Final[Mapping[str, float]] = {"J": 1, "mJ": 1e-3, "uJ": 1e-6, "nJ": 1e-9}
_NUMBER: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z%]\w*|%)?")


def read_number(text: str, units: Mapping[str, float], where: str) -> int | float:
    """Read a number with one of `units`, or without.

    Raises
    ------
    ConfigError
        When it is none, is not finite, or has another unit.
    """
    match = _NUMBER.fullmatch(text.strip())
    unit = match[2] if match else None
    if match is None or (unit is not None and unit not in units):
        known = f", with one of {', '.join(units)}" if units else ""
        raise ConfigError(
            where, f"must be a number{known}", got=repr(text), hint="check the number and its unit"
        )
    value = float(match[1]) * (1 if unit is None else units[unit])
    if not math.isfinite(value):
        raise ConfigError(where, "must be finite", got=repr(text), hint="give a smaller number")
    return int(value) if value.is_integer() else value


def shown_bytes(value: float) -> str:
    """Return bytes with the largest binary unit that leaves a whole number."""
    for unit in ("GiB", "MiB", "KiB"):
        if value >= SIZES[unit] and value % SIZES[unit] == 0:
            return f"{value / SIZES[unit]:.0f}{unit}"
    return f"{value:.0f}B"


def shown_hertz(value: float) -> str:
    """Return a frequency with the unit that people use."""
    for unit in ("GHz", "MHz", "kHz"):
        if value >= FREQUENCIES[unit]:
            return f"{value / FREQUENCIES[unit]:.10g}{unit}"
    return f"{value:.10g}Hz"
