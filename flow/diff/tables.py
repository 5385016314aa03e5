"""What ``vta-flow diff`` shows: one row for each quantity that changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flow.diff.compare import Change, LayerChange, QuantityChange, ReportDiff, VariantDiff
from flow.diff.rules import Broken
from vta_config.text import printable, shown_name

#: Layers of a variant that are shown, those with the largest changes.
MOST_LAYERS: Final = 8
#: Quantities of layers that tables show, and by which the layers are ordered.
SHOWN_OF_LAYERS: Final = ("layer_sqnr", "layer_cycles")
#: Characters of a value in a table.
VALUE_CHARS: Final = 60
NO_DIFFERENCE: Final = "no difference (dates and times are not compared)"


def value_text(value: Any) -> str:
    """Return any JSON value on one line; "–" for none."""
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(text, VALUE_CHARS)


def largest(layers: Sequence[LayerChange], quantity: str, most: int) -> list[LayerChange]:
    """Return the layers in which a quantity changed most, the largest change first."""
    changed = [layer for layer in layers if layer.of(quantity)]
    return sorted(changed, key=lambda layer: -abs(layer.of(quantity)))[:most]


def render(
    diff: ReportDiff, failed: Sequence[Broken] = (), *, most: int = MOST_LAYERS
) -> RenderableType:
    """Return what the command shows.

    Parameters
    ----------
    diff : ReportDiff
    failed : sequence of Broken
        Rules that are broken.
    most : int
        Layers of a variant that are shown for each quantity.
    """
    parts: list[RenderableType] = [Text("\n".join(_sides(diff)))]
    if diff.is_empty:
        parts.append(Text(NO_DIFFERENCE))
    if diff.run:
        parts += ["run", _changes("field", diff.run)]
    if any(variant.changed for variant in diff.variants):
        parts += ["variants", _quantities(diff.variants)]
    for variant in diff.variants:
        parts += _layers(variant, most)
        if variant.host:
            parts.append(Text(printable(f"{variant.name}: why operators are on the host")))
            parts.append(_changes("tensor", variant.host))
    lines = _lines(diff)
    lines += [f"FAILED  {own.where}: {own.what} ({own.rule})" for own in failed]
    if lines:
        parts.append(Text("\n".join(map(printable, lines))))
    return Group(*parts)


def _sides(diff: ReportDiff) -> list[str]:
    return [
        printable(f"{name}  {side.label}" + (f"  ({date})" if date else ""))
        for name, side in (("A", diff.old), ("B", diff.new))
        for date in [side.report.get("date")]
    ]


def _lines(diff: ReportDiff) -> list[str]:
    lines = []
    for name, variants in (("A", diff.only_old), ("B", diff.only_new)):
        if variants:
            lines.append(f"only in {name}: {', '.join(variants)}")
    for variant in diff.variants:
        for name, layers in (("A", variant.old_layers), ("B", variant.new_layers)):
            if layers:
                told = ", ".join(layers[:MOST_LAYERS])
                more = f" and {len(layers) - MOST_LAYERS} more"
                more = more if len(layers) > MOST_LAYERS else ""
                lines.append(f"{variant.name}: layers only in {name}: {told}{more}")
        lines += [f"{variant.name}: {change_line(change)}" for change in variant.other]
    return lines + [change_line(change) for change in diff.other]


def change_line(change: Change) -> str:
    """Return a change of a field as one line."""
    return f"{change.field}: {value_text(change.old)} → {value_text(change.new)}"


def _changes(heading: str, changes: Sequence[Change]) -> Table:
    table = Table(header_style="bold")
    for column in (heading, "A", "B"):
        table.add_column(column, overflow="fold")
    for change in changes:
        cells = (printable(change.field), value_text(change.old), value_text(change.new))
        table.add_row(*map(Text, cells))
    return table


def _new_table(*headings: str) -> Table:
    table = Table(header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for heading in ("A", "B", "change"):
        table.add_column(heading, justify="right")
    return table


def _cells(change: QuantityChange) -> tuple[Text, Text, Text]:
    quantity = change.quantity
    style = {True: "green", False: "red", None: ""}[change.is_better]
    return (
        Text(quantity.text(change.old)),
        Text(quantity.text(change.new)),
        Text(quantity.change_text(change.old, change.new), style=style),
    )


def _quantities(variants: Sequence[VariantDiff]) -> Table:
    table = _new_table("variant", "quantity")
    for variant in variants:
        for place, change in enumerate(variant.changed):
            name = variant.name if place == 0 else ""
            table.add_row(Text(printable(name)), change.quantity.title, *_cells(change))
        if variant.changed:
            table.add_section()
    return table


def _layers(variant: VariantDiff, most: int) -> list[RenderableType]:
    """Return a table for each quantity that changed in layers."""
    tables: list[RenderableType] = []
    for name in SHOWN_OF_LAYERS:
        shown = largest(variant.layers, name, most)
        if not shown:
            continue
        count = sum(1 for layer in variant.layers if layer.of(name))
        (title,) = {c.quantity.title for x in shown for c in x.changes if c.quantity.name == name}
        told = f"the {len(shown)} largest changes of {count}" if count > len(shown) else "layers"
        table = _new_table("layer")
        for layer in shown:
            (change,) = (c for c in layer.changes if c.quantity.name == name)
            table.add_row(Text(shown_name(layer.name)), *_cells(change))
        tables += [Text(printable(f"{variant.name}: {title}, {told}")), table]
    others = [
        layer
        for layer in variant.layers
        if any(c.quantity.name not in SHOWN_OF_LAYERS for c in layer.changes)
    ]
    if others:
        titles = {
            c.quantity.title: None
            for layer in others
            for c in layer.changes
            if c.quantity.name not in SHOWN_OF_LAYERS
        }
        one = len(others) == 1
        who = "1 layer also differs" if one else f"{len(others):,} layers also differ"
        text = f"{variant.name}: {who} in {', '.join(titles)}"
        tables.append(Text(printable(text)))
    return tables
