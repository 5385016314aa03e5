"""An explanation for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flow.explain.words import best_change, percent
from flow.results.explanation import EXPLAIN_FILE, PARTS, Explanation
from flow.results.fitted_table import FittedTable
from flow.results.labelled_lines import LabelledLines
from flow.results.placement import listed
from flow.results.report import name_cell
from flow.system.files import write_atomic
from vta_config.text import printable

#: Columns of the labels of lines.
_LABEL: Final = 13
#: Where most cycles of a layer go, in a column.
SHORT_WORDS: Final[Mapping[str, str]] = {
    "gemm": "GEMM steps",
    "gemm_other": "other GEMM steps",
    "alu": "ALU steps",
    "inp": "reading inputs",
    "wgt": "reading weights",
    "acc": "reading acc",
    "uop": "reading uops",
    "memory": "read latency",
    "out": "writing outputs",
    "fetch": "fetching",
    "pipeline": "starts and ends",
    "between": "gaps",
}
#: Layers that a table of the network lists.
MOST_EXPENSIVE: Final = 10


def render(found: Explanation, *, heading: bool = True) -> RenderableType:
    """Return the answers, where the cycles go, and what changes would save.

    Parameters
    ----------
    found : Explanation
    heading : bool
        Whether it begins with model, machine and variant.
    """
    lines = _heading(found) if heading else []
    lines += [f"{answer.about:{_LABEL}}{answer.text}" for answer in found.answers]
    if found.layer is not None and found.host:
        lines.insert(len(lines) - len(found.answers), f"{'operator':{_LABEL}}{_label(found)}")
    parts: list[RenderableType] = [LabelledLines(lines, _LABEL)]
    if found.layers:
        parts += [Text("\nwhere the cycles go, on the critical path"), _parts(found)]
    if any(change.share is not None for change in found.changes):
        title = "what would change, compiled again and timed by tsim"
        if found.alone:
            title += "; the layer with those beside it"
        parts += [Text(f"\n{title}"), _changes(found)]
    if without := list(_without_numbers(found)):
        parts.append(LabelledLines(without, _LABEL))
    if found.layer is None and found.layers:
        shown, count = min(MOST_EXPENSIVE, len(found.layers)), len(found.layers)
        parts += [Text(f"\nthe {shown} most expensive of {count} layers"), _layers(found)]
    if found.layer is None and found.host:
        parts += [Text(""), LabelledLines(list(_host(found)), _LABEL)]
    return Group(*parts)


def write_explanation(found: Explanation, folder: Path) -> Path:
    """Write ``explain.json`` and return its path.

    Raises
    ------
    ArtifactError
        When the folder or the file cannot be written.
    """
    text = json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return write_atomic(folder / EXPLAIN_FILE, text.encode(errors="backslashreplace"))


def _label(found: Explanation) -> str:
    return printable(found.host[0].label)


def _heading(found: Explanation) -> list[str]:
    machine = found.machine
    variant = f", variant {found.variant}" if found.variant else ""
    return [
        f"{'model':{_LABEL}}{printable(found.model)}{variant}",
        f"{'machine':{_LABEL}}{printable(machine.name)}: "
        f"{machine.batch}×{machine.block}×{machine.block}, {machine.clock_hz / 1e6:g} MHz, "
        f"{machine.bus_bits}-bit bus",
    ]


def _parts(found: Explanation) -> Table:
    table = FittedTable()
    table.add("what the machine does", is_number=False)
    table.add("cycles")
    table.add("share (%)")
    total, parts = found.shown_cycles or 1, found.parts
    for key in sorted(parts, key=lambda key: -parts[key]):
        if parts[key]:
            table.add_row(PARTS[key], f"{parts[key]:,}", f"{100 * parts[key] / total:.1f}")
    return table


def _changes(found: Explanation) -> Table:
    table = FittedTable()
    table.add("change", is_number=False)
    table.add("cycles")
    table.add("before\n(cycles)", rank=2)
    table.add("change\n(%)")
    table.add("SRAM\n(KiB)", rank=1)
    table.add("multi-\npliers", rank=1)
    for change in found.changes:
        if change.share is not None:
            table.add_row(
                change.name,
                f"{change.cycles:,}",
                f"{change.base_cycles:,}",
                percent(change.share),
                _signed(change.sram_bytes / 1024),
                _signed(change.multipliers),
            )
    return table


def _signed(value: float) -> str:
    return f"{value:+,.0f}" if value else "0"


def _without_numbers(found: Explanation) -> Iterator[str]:
    """Yield a line for each reason why changes have no number."""
    reasons: dict[str, list[str]] = {}
    for change in found.changes:
        if change.share is None:
            reasons.setdefault(change.reason, []).append(change.name)
    for number, (reason, names) in enumerate(reasons.items()):
        label = "" if number else "not tried"
        yield f"{label:{_LABEL}}{', '.join(names)}: {printable(reason)}"


def _layers(found: Explanation) -> Table:
    table = FittedTable()
    table.add("layer", is_number=False)
    table.add("cycles")
    table.add("share\n(%)", rank=2)
    table.add("most cycles\ngo to", is_number=False)
    table.add("their\nshare (%)", rank=1)
    table.add("helps most", is_number=False)
    table.add("change\n(%)")
    for layer in sorted(found.layers, key=lambda each: -each.cycles)[:MOST_EXPENSIVE]:
        key = max(layer.parts, key=lambda part: layer.parts[part])
        best = best_change(found, layer.name)
        table.add_row(
            name_cell(layer.name),
            f"{layer.cycles:,}",
            f"{100 * layer.cycles / (found.cycles or 1):.1f}",
            SHORT_WORDS[key],
            f"{100 * layer.parts[key] / (layer.cycles or 1):.0f}",
            "–" if best is None else best[0].name,
            "–" if best is None else percent(best[1]),
        )
    return table


def _host(found: Explanation) -> Iterator[str]:
    """Yield the operators on the host by reason, with what to do."""
    groups: dict[str, list[str]] = {}
    advice: dict[str, str] = {}
    for operator in found.host:
        groups.setdefault(operator.reason, []).append(printable(operator.label, 120))
        advice[operator.reason] = operator.advice
    yield f"{'on host':{_LABEL}}{len(found.host):,} operators, not included in the cycles:"
    for reason, labels in groups.items():
        yield f"{'':{_LABEL}}{len(labels):,} × {printable(reason)}: {listed(labels)}"
        yield f"{'':{_LABEL}}→ {advice[reason]}"
