"""A sweep as people read it: tables for the terminal, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flow.machines.axes import AXES
from flow.results.fitted_table import FittedTable
from flow.results.sweep_document import (
    AccuracyFields,
    AxisValue,
    Dominating,
    EffectFields,
    SweepFields,
    SweepRow,
)
from flow.sweep.rows import CONFIG
from vta_config.text import printable, shown_name

#: The front's rows that a terminal shows of one model.
MOST_ROWS: Final = 25
#: Quantities of the front by name: heading, unit, how it is shown.
UNITS: Final[Mapping[str, str]] = {"latency": "ms", "area": "mm²", "energy": "mJ"}
#: Columns of the CSV that are the same for each sweep; those of axes stand between.
_BEFORE: Final = ("machine_id", "model", "variant", "config")
_BEHIND: Final = (
    "state",
    "reason",
    "cycles",
    "ms",
    "frames_per_s",
    "sram_bytes",
    "area_mm2",
    "energy_mj",
    "dram_bytes",
    "gemm_utilization",
    "bound",
    "macs",
    "vta_macs",
    "host_operators",
    "accuracy_quantity",
    "accuracy",
    "images",
    "sqnr_db",
    "on_front",
    "dominated_by",
    "better_in",
    "other_choices",
)


def choice_text(axis: str, value: AxisValue) -> str:
    """Return a choice without the axis' name, such as ``32KiB``."""
    return AXES[axis].shown(value) if axis in AXES else shown_name(str(value))


def varying(found: SweepFields) -> list[str]:
    """Return the axes with several values, the varied machine among them."""
    return [name for name, values in found.axes.items() if len(values) > 1]


def value_text(quantity: str, value: float, accuracy: AccuracyFields | None = None) -> str:
    """Return a compared number with its unit."""
    if quantity in AXES:
        return choice_text(quantity, int(value))
    if quantity != "accuracy":
        return f"{value:,.4g} {UNITS.get(quantity, '')}".rstrip()
    share = accuracy is None or accuracy.quantity in ("top-1", "agreement")
    return f"{100 * value:.2f} %" if share else f"{value:.2f} dB"


def row_text(row: SweepRow, axes: Sequence[str]) -> str:
    """Return the choices of a row in the axes that vary."""
    own = {CONFIG: row.config, **row.choices}
    return ", ".join(f"{axis} {choice_text(axis, own[axis])}" for axis in axes)


def better_text(by: Dominating, accuracy: AccuracyFields | None = None) -> str:
    """Say in what one machine is better than another: ``latency 12.3 → 9.1 ms``."""
    parts = []
    for c in by.better:
        own, other = (value_text(c.quantity, v, accuracy) for v in (c.own, c.other))
        unit = f" {own.rpartition(' ')[2]}"
        parts.append(f"{c.quantity} {own.removesuffix(unit) if unit in other else own} → {other}")
    return ", ".join(parts)


def changes_text(by: Dominating) -> str:
    """Say what one machine has chosen otherwise: ``bus 64 → 128``."""
    return ", ".join(
        f"{c.axis} {choice_text(c.axis, c.own)} → {choice_text(c.axis, c.other)}"
        for c in by.choices
    )


# ---- tables --------------------------------------------------------------------------------------
def render(found: SweepFields) -> RenderableType:
    """Return what the command shows: of each model its front, and what each choice changes."""
    parts: list[RenderableType] = []
    for model in found.models:
        rows = [row for row in found.rows if row.model == model.name]
        best = sorted((r for r in rows if r.on_front), key=lambda r: r.ms or 0.0)
        measured = sum(row.state == "measured" for row in rows)
        shown = best[:MOST_ROWS]
        title = f"{printable(model.name)}: {len(best)} of {measured} machines on the front"
        if len(shown) < len(best):
            title += f", the {len(shown)} fastest"
        parts += [Text(title), front_table(found, shown)]
        effects = [e for e in found.effects if e.model == model.name]
        if effects:
            title = f"{printable(model.name)}: what each choice changes, all others the same"
            parts += [Text(title), effects_table(found, effects)]
    return Group(*parts)


def front_table(found: SweepFields, rows: Sequence[SweepRow]) -> Table:
    """Lay rows out: choices, what they cost, what they reach."""
    table, axes = FittedTable(), varying(found)
    several = len({row.variant for row in found.rows}) > 1
    table.add("machine")
    if several:
        table.add("variant", is_number=False)
    for axis in axes:
        table.add(axis.replace("-", "\n"), is_number=axis != CONFIG, rank=0)
    for heading, rank in (
        ("latency\n(ms)", 0),
        ("latency\n(cycles)", 2),
        ("area\n(mm²)", 0),
        ("energy\n(mJ)", 0),
        ("DRAM traffic\n(MB)", 3),
        ("GEMM\nuse (%)", 3),
    ):
        table.add(heading, rank=rank)
    accuracies = [row.accuracy for row in rows if row.accuracy is not None]
    if accuracies:
        quantity = accuracies[0].quantity
        table.add(f"{quantity}\n({'dB' if 'SQNR' in quantity else '%'})")
    for row in rows:
        assert row.area is not None and row.energy is not None
        own = {CONFIG: row.config, **row.choices}
        cells = [f"{row.machine_id}", *([row.variant] if several else [])]
        cells += [choice_text(axis, own[axis]) for axis in axes]
        cells += [
            f"{row.ms:,.3f}",
            f"{row.cycles:,}",
            f"{row.area.mm2:.3f}",
            f"{row.energy.mj:.3f}",
        ]
        cells += [f"{(row.dram_bytes or 0) / 1e6:.2f}", f"{100 * (row.gemm_utilization or 0):.1f}"]
        if accuracies:
            cells.append(accuracy_cell(row.accuracy))
        table.add_row(*map(Text, cells))
    return table


def accuracy_cell(accuracy: AccuracyFields | None) -> str:
    """Return an accuracy without its unit."""
    if accuracy is None:
        return "–"
    if accuracy.value is None:
        return "exact"
    return value_text("accuracy", accuracy.value, accuracy).rpartition(" ")[0]


def effects_table(found: SweepFields, effects: Sequence[EffectFields]) -> Table:
    """Lay out what each choice changes."""
    table = FittedTable()
    table.add("choice", is_number=False)
    names = [name for name in found.compared if any(name in e.differences for e in effects)]
    for name in names:
        table.add(f"{name}\n({'points or dB' if name == 'accuracy' else '%'})")
    for heading in ("pairs", "always\nbetter", "always\nworse"):
        table.add(heading, rank=1)
    for effect in effects:
        table.add_row(
            Text(effect_name(effect)),
            *(effect_cell(found, effect, name) for name in names),
            f"{effect.pairs}",
            f"{effect.high_dominates}",
            f"{effect.low_dominates}",
        )
    return table


def effect_name(effect: EffectFields) -> str:
    """Return the choice that is compared, such as ``bus 64 → 128``."""
    low, high = (choice_text(effect.axis, v) for v in (effect.low, effect.high))
    return f"{effect.axis} {low} → {high}"


def effect_cell(found: SweepFields, effect: EffectFields, name: str) -> str:
    """Return by how much a choice changes a quantity, in percent; accuracy in points or dB."""
    if name not in effect.differences:
        return "–"
    if name == "accuracy":
        own = next((r.accuracy for r in found.rows if r.model == effect.model and r.accuracy), None)
        share = own is not None and own.quantity in ("top-1", "agreement")
        return _signed(effect.differences[name] * (100 if share else 1), 2)
    factor = effect.factors[name]
    return "–" if factor is None else _signed(100 * (factor - 1), 1)


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return "0" if float(text) == 0 else text.replace("-", "−")


# ---- CSV -----------------------------------------------------------------------------------------
def csv_text(found: SweepFields) -> str:
    """Return a line for each row."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    axes = [name for name in found.axes if name != CONFIG]
    writer.writerow((*_BEFORE, *(name.replace("-", "_") for name in axes), *_BEHIND))
    several = len({row.variant for row in found.rows}) > 1
    for row in found.rows:
        before = (row.machine_id, row.model, row.variant, row.config)
        chosen = [row.choices[name] for name in axes]
        writer.writerow((*before, *chosen, *_cells(row, several)))
    return file.getvalue()


def _cells(row: SweepRow, several: bool) -> list[Any]:
    accuracy, by = row.accuracy, row.dominated_by
    values = [
        row.state,
        row.reason,
        row.cycles,
        row.ms,
        row.frames_per_s,
        row.sram_bytes,
        None if row.area is None else row.area.mm2,
        None if row.energy is None else row.energy.mj,
        row.dram_bytes,
        row.gemm_utilization,
        row.bound,
        row.macs,
        row.vta_macs,
        row.host_operators,
        *(
            (None,) * 4
            if accuracy is None
            else (accuracy.quantity, accuracy.value, accuracy.images, accuracy.sqnr_db)
        ),
        None if row.on_front is None else str(row.on_front).lower(),
        None if by is None else f"{by.machine_id}" + (f" {by.variant}" if several else ""),
        None if by is None else better_text(by, accuracy),
        None if by is None else changes_text(by),
    ]
    return ["" if value is None else value for value in values]
