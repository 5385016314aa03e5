"""The lines of a report that tell how many bits the layers have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from relay_passes.integers.plan import QuantPlan
from relay_passes.scales.bit_widths import Widths
from vta_config.text import printable

#: Layers that a line names.
_NAMED: Final = 3


def bits_lines(plans: Iterable[tuple[str, QuantPlan | None]]) -> list[str]:
    """Return one line per variant with a layer of fewer than 8 bits.

    Parameters
    ----------
    plans : iterable of (str, QuantPlan or None)
        Variants and their plans.
    """
    lines = []
    for variant, plan in plans:
        widths = {} if plan is None else plan.widths()
        if set(widths.values()) <= {Widths()}:
            continue
        by_widths: dict[Widths, list[str]] = {}
        for name, own in widths.items():
            by_widths.setdefault(own, []).append(name)
        texts = [
            f"weights {own.weight_bits}, activations {own.activation_bits} in "
            f"{len(names):,} layer{'s' if len(names) != 1 else ''} ({_listed(names)})"
            for own, names in by_widths.items()
        ]
        lines.append(printable(f"{variant}: {'; '.join(texts)}"))
    return [("bits       " if i == 0 else " " * 11) + line for i, line in enumerate(lines)]


def _listed(names: list[str]) -> str:
    """Return all names, or of many the first few and how many more there are."""
    more = len(names) - _NAMED
    shown = names if more <= 1 else names[:_NAMED]
    return ", ".join(shown) if more <= 1 else f"{', '.join(shown)} and {more:,} more"
