"""Which images a report is about, and which of its variants was calibrated on which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vta_config.text import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """Which images were used."""

    name: str
    images: int


def calibration_lines(variants: Iterable[tuple[str, DataFacts | None]]) -> list[str]:
    """Return a line for each set of calibration images; the one of most variants names none."""
    groups: dict[DataFacts, list[str]] = {}
    for variant, facts in variants:
        if facts is not None:
            groups.setdefault(facts, []).append(variant)
    usual = max(groups, key=lambda facts: len(groups[facts]), default=None)
    lines = []
    for facts in sorted(groups, key=lambda facts: facts != usual):
        names = "" if facts == usual else f"{', '.join(groups[facts])}: "
        lines.append(f"{names}on {facts.images:,} images, {printable(facts.name)}")
    return [("calibrated " if i == 0 else " " * 11) + line for i, line in enumerate(lines)]
