"""Tell how much of a model that is quantized already was kept."""

from __future__ import annotations

from collections.abc import Iterable

from relay_passes.scales.kept import Deviation
from vta_config.text import printable


def kept_lines(variants: Iterable[tuple[str, Deviation | None]]) -> list[str]:
    """Return two lines for each variant that keeps the integers of a file."""
    lines = []
    for variant, found in variants:
        if found is None:
            continue
        lines.append(
            f"{variant}: {found.same_tensors:,} of {found.tensors:,} tensors have the scale of the "
            f"file{_furthest(found.tensor, found.tensor_factor)}"
        )
        lines.append(
            f"{variant}: {found.same_channels:,} of {found.channels:,} channels have the weights "
            f"of the file{_furthest(found.weight, found.weight_factor)}"
        )
    return [("kept       " if i == 0 else " " * 11) + line for i, line in enumerate(lines)]


def _furthest(name: str, factor: float) -> str:
    """Name the scale that is furthest from the file's, if one is."""
    if f"{factor:.4f}" == "1.0000":
        return ""
    return f"; furthest {printable(name)}, whose scale is {factor:.4f} times that"
