"""How to get this report again: command, versions, seeds, data, machine."""

from __future__ import annotations

import json
import shlex

from markupsafe import Markup

from flow.html import texts
from flow.html.parts import Code, Column, Facts, Lines, Part, Table
from flow.html.values import Values
from vta_config.text import printable


def parts(report: Values) -> list[Part]:
    """Return what must be the same for the same report.

    Raises
    ------
    Missing
        When the report does not even name its model.
    """
    found: list[Part] = []
    if command := report.maybe_texts("command"):
        found.append(Code("Command", shlex.join(command)))
    else:
        found.append(Lines(["The report does not hold the command: an older release wrote it."]))
    model = report.part("model")
    facts: list[tuple[str, str | Markup]] = [
        ("model", model.text("name")),
        ("SHA-256 of the model", model.text("sha256")),
    ]
    for key, what in (("evaluation", "evaluated on"), ("calibration", "calibrated on")):
        if data := report.maybe_part(key):
            images = texts.plural(data.number("images"), "image")
            facts.append((what, f"{images}, {data.text('name')}"))
    if (seed := report.maybe_number("seed")) is not None:  # up to version 3
        facts.append(("seed", f"{seed:g}"))
    if seeds := report.maybe_part("seeds"):
        facts += [(f"seed, {printable(key)}", f"{seeds.number(key):g}") for key in seeds.data]
    facts.append(("engine", report.text("engine")))
    if objective := report.maybe_text("objective"):
        facts.append(("objective", objective))
    if date := report.maybe_text("date"):
        facts.append(("date", date))
    if tool := report.maybe_part("tool"):
        name = tool.maybe_text("name") or "tool"
        known = [(name, tool.maybe_text("version") or texts.NONE)]
        others = (key for key in tool.data if key not in ("name", "version"))
        known += [(printable(key), text) for key in others if (text := tool.maybe_text(key))]
        facts += known
    found.append(Facts(facts))
    if options := report.maybe_part("options"):
        found.append(_json_table("Options", options, "all options"))
    machine = report.part("machine")
    found.append(_json_table("Machine", machine, "the machine, as --config takes it"))
    if seconds := report.maybe_part("seconds"):
        rows = [[name, f"{seconds.number(name):,.1f}"] for name in seconds.data]
        rows.append(["total", f"{sum(seconds.number(name) for name in seconds.data):,.1f}"])
        columns = [Column(heading="stage", numeric=False), Column(heading="time (s)")]
        found.append(Table(label="Time of each stage", columns=columns, rows=rows,
                           folded="time of each stage"))  # fmt: skip
    return found


def _json_table(label: str, values: Values, folded: str) -> Table:
    """Return the keys and values of an object, values as JSON where they are not text."""
    rows: list[list[str | Markup]] = [
        [
            printable(key),
            printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)),
        ]
        for key, value in values.data.items()
    ]
    columns = [Column(heading="key", numeric=False), Column(heading="value", numeric=False)]
    return Table(label=label, columns=columns, rows=rows, folded=folded)
