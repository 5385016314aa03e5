"""The HTML page of ``vta-flow diff``: one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from flow.diff.compare import Change, QuantityChange, ReportDiff, VariantDiff
from flow.diff.quantities import OF_LAYERS
from flow.diff.rules import Broken
from flow.diff.tables import NO_DIFFERENCE, change_line, value_text
from vta_config.text import printable

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #b42318 }
@media (prefers-color-scheme: dark) { :root { --good: #4ac26b; --bad: #ff8a80 } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem; text-align: left;
  vertical-align: top; overflow-wrap: anywhere }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap }
.better { color: var(--good) } .worse, .failed { color: var(--bad) }
@media print { body { margin: 0; max-width: none } }
"""


def page(diff: ReportDiff, failed: Sequence[Broken] = ()) -> str:
    """Return the page: everything that differs, every layer included."""
    parts = [
        "<h1>Difference of two reports</h1>",
        _table(
            ("", "report", "date"),
            [
                [_cell(name), _cell(side.label), _cell(str(side.report.get("date") or "–"))]
                for name, side in (("A", diff.old), ("B", diff.new))
            ],
        ),
    ]
    if failed:
        rows = [[_cell(own.rule), _cell(own.where), _cell(own.what, "failed")] for own in failed]
        parts += ["<h2>Broken rules</h2>", _table(("rule", "where", "what"), rows)]
    if diff.is_empty:
        parts.append(f"<p>{escape(NO_DIFFERENCE)}</p>")
    if diff.run:
        parts += ["<h2>Run</h2>", _changes("field", diff.run)]
    changed = [variant for variant in diff.variants if variant.changed]
    if changed:
        rows = [
            [_cell(v.name if place == 0 else ""), _cell(c.quantity.title), *_numbers(c)]
            for v in changed
            for place, c in enumerate(v.changed)
        ]
        parts += ["<h2>Variants</h2>", _table(("variant", "quantity"), rows, numbers=True)]
    for variant in diff.variants:
        parts += _variant(variant)
    lines = [
        f"only in {name}: {', '.join(names)}"
        for name, names in (("A", diff.only_old), ("B", diff.only_new))
        if names
    ]
    lines += [change_line(change) for change in diff.other]
    if lines:
        parts += ["<h2>Further differences</h2>", _list(lines)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(f'{diff.old.label} → {diff.new.label}')}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _variant(variant: VariantDiff) -> list[str]:
    """Return what differs in a variant beside its quantities: layers, host, other parts."""
    parts = []
    for name, quantity in OF_LAYERS.items():
        changes = [
            (x.name, c) for x in variant.layers for c in x.changes if c.quantity.name == name
        ]
        if changes:
            rows = [[_cell(layer), *_numbers(change)] for layer, change in changes]
            parts.append(f"<h3>{_text(quantity.title)} by layer</h3>")
            parts.append(_table(("layer",), rows, numbers=True))
    if variant.host:
        parts += ["<h3>Operators on the host</h3>", _changes("tensor", variant.host)]
    lines = [
        f"layers only in {name}: {', '.join(layers)}"
        for name, layers in (("A", variant.old_layers), ("B", variant.new_layers))
        if layers
    ]
    lines += [change_line(change) for change in variant.other]
    if lines:
        parts.append(_list(lines))
    return [f"<h2>{_text(variant.name)}</h2>", *parts] if parts else []


def _text(text: str) -> str:
    return escape(printable(text))


def _cell(text: str, kind: str = "") -> str:
    return f'<td class="{kind}">{_text(text)}</td>' if kind else f"<td>{_text(text)}</td>"


def _numbers(change: QuantityChange) -> list[str]:
    quantity = change.quantity
    kind = {True: "number better", False: "number worse", None: "number"}[change.is_better]
    return [
        _cell(quantity.text(change.old), "number"),
        _cell(quantity.text(change.new), "number"),
        _cell(quantity.change_text(change.old, change.new), kind),
    ]


def _changes(heading: str, changes: Sequence[Change]) -> str:
    rows = [[_cell(c.field), _cell(value_text(c.old)), _cell(value_text(c.new))] for c in changes]
    return _table((heading, "A", "B"), rows)


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    cells = [f"<th>{escape(heading)}</th>" for heading in headings]
    if numbers:
        cells += [f'<th class="number">{heading}</th>' for heading in ("A", "B", "change")]
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table>\n<thead><tr>{"".join(cells)}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _list(lines: Iterable[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{_text(line)}</li>" for line in lines) + "\n</ul>"
