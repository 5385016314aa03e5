"""The HTML page of ``vta-flow diff``: one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from flow.diff.compare import Change, QuantityChange, ReportDiff, VariantDiff
from flow.diff.quantities import OF_LAYERS
from flow.diff.rules import Broken
from flow.diff.tables import NO_DIFFERENCE, change_line, value_text
from flow.html.parts import Alert, Column, Heading, Lines, Part, Section, Table
from flow.html.render import render
from vta_config.text import printable

_VALUES = (Column(heading="A"), Column(heading="B"), Column(heading="change"))


def page(diff: ReportDiff, failed: Sequence[Broken] = ()) -> str:
    """Return the page: everything that differs, every layer included."""
    sides = [
        [name, printable(side.label), printable(str(side.report.get("date") or "–"))]
        for name, side in (("A", diff.old), ("B", diff.new))
    ]
    headline: list[Part] = [_table("Reports", ("", "report", "date"), sides)]
    if diff.is_empty:
        headline.append(Lines([NO_DIFFERENCE]))
    headline += [Alert(printable(f"{x.where}: {x.what} ({x.rule})")) for x in failed]
    return render(
        "diff.html.j2",
        title=printable(f"{diff.old.label} → {diff.new.label}"),
        headline=headline,
        sections=list(_sections(diff)),
    )


def _sections(diff: ReportDiff) -> Iterable[Section]:
    if diff.run:
        yield _section("run", "Run", [_changes("Run", "field", diff.run)])
    rows = [
        [printable(variant.name) if place == 0 else "", change.quantity.title, *_values(change)]
        for variant in diff.variants
        for place, change in enumerate(variant.changed)
    ]
    if rows:
        table = _table("Quantities", ("variant", "quantity"), rows, values=True)
        yield _section("variants", "Variants", [table])
    for index, variant in enumerate(diff.variants):
        if parts := _of_variant(variant):
            yield _section(f"variant-{index}", printable(variant.name), parts)
    lines = _only("only", diff.only_old, diff.only_new) + list(map(change_line, diff.other))
    if lines:
        yield _section("further", "Further differences", [Lines(lines)])


def _section(anchor: str, title: str, parts: Sequence[Part]) -> Section:
    return Section(anchor=anchor, title=title, about="", parts=parts)


def _of_variant(variant: VariantDiff) -> list[Part]:
    """Return what differs in a variant beside its quantities: layers, host, other parts."""
    parts: list[Part] = []
    for name, quantity in OF_LAYERS.items():
        rows = [
            [printable(layer.name), *_values(change)]
            for layer in variant.layers
            for change in layer.changes
            if change.quantity.name == name
        ]
        if rows:
            title = f"{quantity.title} by layer"
            parts += [Heading(title), _table(title, ("layer",), rows, values=True)]
    if variant.host:
        title = "Why operators are on the host"
        parts += [Heading(title), _changes(title, "tensor", variant.host)]
    lines = _only("layers only", variant.old_layers, variant.new_layers)
    lines += map(change_line, variant.other)
    return [*parts, Lines(lines)] if lines else parts


def _only(what: str, old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Return the lines of what one side alone has."""
    sides = (("A", old), ("B", new))
    return [printable(f"{what} in {side}: {', '.join(names)}") for side, names in sides if names]


def _values(change: QuantityChange) -> list[str | Markup]:
    quantity = change.quantity
    told = quantity.change_text(change.old, change.new)
    kind = {True: "better", False: "worse", None: ""}[change.is_better]
    shown = Markup('<span class="{}">{}</span>').format(kind, told) if kind else told
    return [quantity.text(change.old), quantity.text(change.new), shown]


def _changes(label: str, heading: str, changes: Sequence[Change]) -> Table:
    rows = [[printable(c.field), value_text(c.old), value_text(c.new)] for c in changes]
    return _table(label, (heading, "A", "B"), rows)


def _table(
    label: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str | Markup]],
    *,
    values: bool = False,
) -> Table:
    columns = [Column(heading=heading, numeric=False) for heading in headings]
    return Table(label=label, columns=[*columns, *(_VALUES if values else ())], rows=rows)
