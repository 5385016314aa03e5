"""``machines.html``: a sweep as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup

from flow.html import svg, texts
from flow.html.parts import (
    Chart,
    Charts,
    Column,
    Entry,
    Facts,
    Heading,
    Legend,
    Lines,
    Part,
    Section,
    Table,
    Tile,
    Tiles,
)
from flow.html.render import render
from flow.results.sweep_document import SweepFields, SweepRow
from flow.sweep.chart import (
    NARROW,
    WIDE,
    axis_name,
    colour_axis,
    colours_of,
    marked_rows,
    pairs_of,
    panel,
)
from flow.sweep.rows import CONFIG
from flow.sweep.show import (
    accuracy_cell,
    better_text,
    changes_text,
    choice_text,
    effect_cell,
    effect_name,
    row_text,
    varying,
)
from vta_config.text import shown_name

HTML_FILE: Final = "machines.html"
#: Rows of the table of all machines; the CSV has all.
MOST_ROWS: Final = 2000
_STATES: Final[Mapping[str, str]] = {
    "failed": "failed",
    "outside": "outside a constraint",
    "waiting": "not measured",
}


def page(found: SweepFields, sources: Mapping[str, str]) -> str:
    """Return the page.

    Parameters
    ----------
    found : SweepFields
    sources : mapping of str to str
        Where constants of the model come from, by their names.
    """
    names = ", ".join(shown_name(model.name) for model in found.models)
    count = len({row.machine_id for row in found.rows if row.ms is not None})
    sections = [
        *(_model_section(found, k) for k in range(len(found.models))),
        _effects_section(found),
        _rows_section(found),
        *([failed] if (failed := _failed_section(found)) else []),
        _model_of_costs(found, sources),
        _space_section(found),
    ]
    return render(
        "machines.html.j2",
        title=names,
        machines=f"{count:,} machines",
        headline=[Tiles(_tiles(found)), Lines([f"{s}." for s in found.remarks])],
        sections=sections,
    )


def _rows_of(found: SweepFields, model: str) -> list[SweepRow]:
    return [row for row in found.rows if row.model == model]


def _tiles(found: SweepFields) -> list[Tile]:
    tiles = []
    for model in found.models:
        rows = _rows_of(found, model.name)
        best = [row for row in rows if row.on_front]
        measured = sum(row.state == "measured" for row in rows)
        note = f"of {measured:,} machines"
        tiles.append(
            Tile(name=f"{shown_name(model.name)}: front", value=f"{len(best):,}", note=note)
        )
        if best:
            fastest = min(best, key=lambda row: row.ms or 0.0)
            axes = varying(found)
            tiles.append(
                Tile(
                    name=f"{shown_name(model.name)}: fastest",
                    value=f"{texts.milliseconds(fastest.ms)} ms",
                    note=row_text(fastest, axes),
                )
            )
    return tiles


def _model_section(found: SweepFields, index: int) -> Section:
    """Return the charts and the front of a model."""
    model = found.models[index]
    rows = _rows_of(found, model.name)
    axis = colour_axis(found)
    entries = [
        Entry(colour=colour, text=f"{axis} {choice_text(axis, value)}")
        for value, colour in colours_of(found).items()
    ]
    charts = []
    for pair in pairs_of(found):
        label = f"{axis_name(rows, pair[1])} over {axis_name(rows, pair[0])}, one point per machine"
        drawn = [
            svg.picture(*size, label, *panel(found, rows, pair, size), class_="machines")
            for size in (WIDE, NARROW)
        ]
        charts.append(Chart(wide=drawn[0], narrow=drawn[1]))
    marks = [
        f"{m.letter}: {m.why}: machine {m.row.machine_id}, {row_text(m.row, varying(found))}."
        for m in marked_rows(found, rows)
    ]
    best = sorted((r for r in rows if r.on_front), key=lambda r: r.ms or 0.0)
    about = (
        "One point per machine: further left and further down is better. Full points are on the "
        "Pareto front: no other machine is nowhere worse and somewhere better. The dashed line "
        "joins the best in the two quantities of the chart alone."
    )
    parts: list[Part] = [*([Legend(entries)] if entries else []), Charts(charts), Lines(marks)]
    parts += [Heading("The front"), _table("The Pareto front", found, best)]
    return Section(
        anchor=f"model-{index + 1}", title=shown_name(model.name), about=about, parts=parts
    )


def _table(label: str, found: SweepFields, rows: Sequence[SweepRow]) -> Table:
    headings, cells = _columns(found, rows)
    columns = [Column(heading=h, numeric=k > 0 and h != CONFIG) for k, h in enumerate(headings)]
    return Table(label=label, columns=columns, rows=cells)


def _columns(
    found: SweepFields, rows: Sequence[SweepRow]
) -> tuple[list[str], list[list[str | Markup]]]:
    """Return headings and cells of measured rows."""
    axes = varying(found)
    several = len({row.variant for row in found.rows}) > 1
    quantity = next((row.accuracy.quantity for row in rows if row.accuracy is not None), "")
    headings = ["machine", *(["variant"] if several else []), *axes]
    headings += ["latency (ms)", "latency (cycles)", "area (mm²)", "energy (mJ)"]
    headings += ["DRAM traffic (MB)", "GEMM use (%)", "bound by"]
    headings += [f"{quantity} ({'dB' if 'SQNR' in quantity else '%'})"] if quantity else []
    table: list[list[str | Markup]] = []
    for row in rows:
        own = {CONFIG: row.config, **row.choices}
        cells: list[str | Markup] = [f"{row.machine_id}", *([row.variant] if several else [])]
        cells += [choice_text(axis, own[axis]) for axis in axes]
        cells += [texts.milliseconds(row.ms), texts.count(row.cycles)]
        cells += ["–" if row.area is None else f"{row.area.mm2:.3f}"]
        cells += ["–" if row.energy is None else f"{row.energy.mj:.3f}"]
        cells += [f"{(row.dram_bytes or 0) / 1e6:.2f}", texts.percent(row.gemm_utilization, 1)]
        cells += [row.bound or "–"]
        cells += [accuracy_cell(row.accuracy)] if quantity else []
        table.append(cells)
    return headings, table


def _effects_section(found: SweepFields) -> Section:
    names = [n for n in found.compared if any(n in e.differences for e in found.effects)]
    columns = [Column(heading="model", numeric=False), Column(heading="choice", numeric=False)]
    columns += [
        Column(heading=f"{n} ({'points or dB' if n == 'accuracy' else '%'})") for n in names
    ]
    columns += [Column(heading=h) for h in ("pairs", "new dominates", "old dominates")]
    rows: list[list[str | Markup]] = [
        [
            shown_name(e.model),
            effect_name(e),
            *(effect_cell(found, e, n) for n in names),
            f"{e.pairs}",
            f"{e.high_dominates}",
            f"{e.low_dominates}",
        ]
        for e in found.effects
    ]
    parts: list[Part] = [Table(label="What each choice changes", columns=columns, rows=rows)]
    if not rows:
        parts = [Lines(["No two machines differ in one choice alone."])]
    return Section(
        anchor="choices",
        title="What each choice changes",
        about="The median change over all pairs of machines that differ in nothing else, and the "
        "pairs in which one machine is nowhere worse and somewhere better.",
        parts=parts,
    )


def _rows_section(found: SweepFields) -> Section:
    """Return every measured machine, and what beats it."""
    parts: list[Part] = []
    for model in found.models:
        rows = [r for r in _rows_of(found, model.name) if r.ms is not None]
        rows.sort(key=lambda row: row.ms or 0.0)
        shown = rows[:MOST_ROWS]
        headings, cells = _columns(found, shown)
        for row, own in zip(shown, cells, strict=True):
            by = row.dominated_by
            if by is None:
                own += ["on the front" if row.on_front else _STATES[row.state], "", ""]
            else:
                own += [f"{by.machine_id}", better_text(by, row.accuracy), changes_text(by)]
        columns = [Column(heading=h, numeric=k > 0 and h != CONFIG) for k, h in enumerate(headings)]
        columns.append(Column(heading="dominated by", numeric=False))
        columns += [
            Column(heading=h, numeric=False, wide=True) for h in ("which is better in", "by")
        ]
        parts += [
            Heading(shown_name(model.name)),
            Table(label=model.name, columns=columns, rows=cells),
        ]
        if len(shown) < len(rows):
            parts.append(Lines([f"The {len(shown):,} fastest of {len(rows):,}; the CSV has all."]))
    return Section(
        anchor="machines",
        title="All machines",
        about="A machine that is not on the front is dominated by others. The one that is named "
        "has the fewest other choices.",
        parts=parts,
    )


def _failed_section(found: SweepFields) -> Section | None:
    failed = [row for row in found.rows if row.state in ("failed", "waiting")]
    if not failed:
        return None
    rows: list[list[str | Markup]] = [
        [
            f"{row.machine_id}",
            shown_name(row.model),
            row.variant,
            row_text(row, varying(found)),
            _STATES[row.state],
            row.reason,
        ]
        for row in failed[:MOST_ROWS]
    ]
    headings = ("machine", "model", "variant", "choices", "state", "reason")
    columns = [Column(heading=h, numeric=False, wide=h == "reason") for h in headings]
    table = Table(
        label="Machines that were not measured",
        columns=columns,
        rows=rows,
        folded=f"{len(failed):,} rows",
    )
    return Section(
        anchor="failed",
        title="Not measured",
        about="Machines that cannot be built, that the network does not fit, or for which there "
        "was no time.",
        parts=[table],
    )


def _model_of_costs(found: SweepFields, sources: Mapping[str, str]) -> Section:
    rows: list[list[str | Markup]] = [
        [name.replace("_", " "), _constant_text(value), sources.get(name, "–")]
        for name, value in found.constants.items()
        if name != "name"
    ]
    columns = [
        Column(heading="constant", numeric=False),
        Column(heading="value"),
        Column(heading="source", numeric=False, wide=True),
    ]
    return Section(
        anchor="costs",
        title="The model of area and energy",
        about=f"Technology: {found.constants.get('name', '–')}. A model, not a layout: it counts "
        "memories, multipliers, adders and what they do, and no wires, clock tree or control.",
        parts=[Table(label="Constants", columns=columns, rows=rows)],
    )


def _constant_text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"{texts.size(b)}: {pj:g}" for b, pj in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _space_section(found: SweepFields) -> Section:
    facts: list[tuple[str, str | Markup]] = [
        (axis, ", ".join(choice_text(axis, v) for v in values))
        for axis, values in found.axes.items()
    ]
    facts += [("constraint", text) for text in found.where]
    space = found.space
    facts.append(("machines", f"{space.machines:,}, {space.left_out:,} left out by constraints"))
    if space.sampled:
        facts.append(("drawn by seed", f"{space.seed}"))
    for model in found.models:
        facts.append((f"{shown_name(model.name)} calibrated on", model.calibrated_on))
        facts.append((f"{shown_name(model.name)} sha256", model.sha256))
    facts.append(("took", f"{found.seconds:,.1f} s"))
    return Section(
        anchor="space",
        title="The space",
        about="The values of each choice. The same command with the same model, seed and version "
        "gives the same rows.",
        parts=[Facts(facts)],
    )
