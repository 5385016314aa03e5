"""What bounds the deployed variant, and what would help."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from flow.html import texts
from flow.html.parts import Column, Facts, Lines, Part, Table
from flow.html.values import Missing, Values
from vta_config.text import printable, shown_name


def parts(report: Values) -> list[Part]:
    """Return the answers, and a row for each change that was tried.

    Raises
    ------
    Missing
        When nothing was explained.
    """
    found = report.part("explanation")
    answers: list[tuple[str, str | Markup]] = [
        (printable(answer.text("about")), printable(answer.text("text")))
        for answer in found.parts("answers")
    ]
    if not answers:
        raise Missing("explanation.answers")
    result: list[Part] = [Facts(answers)]
    if found.maybe_text("layer") is None:
        result += _host(found.maybe_parts("host") or [])
    rows: list[Sequence[str | Markup]] = []
    without: dict[str, list[str]] = {}
    for change in found.parts("changes"):
        cycles, base = change.maybe_number("cycles"), change.maybe_number("base_cycles")
        name = shown_name(change.text("name"))
        if cycles is None or not base:
            without.setdefault(printable(change.text("reason")), []).append(name)
            continue
        share = texts.points(cycles / base, 1.0)
        rows.append(
            [
                name,
                texts.count(cycles),
                texts.count(base),
                share,
                texts.more(change.number("sram_bytes") / 1024),
                texts.more(change.number("multipliers")),
            ]
        )
    if rows:
        columns = [
            Column(heading="change", numeric=False),
            Column(heading="cycles"),
            Column(heading="on this machine (cycles)"),
            Column(heading="change (%)"),
            Column(heading="more SRAM (KiB)"),
            Column(heading="more multipliers"),
        ]
        result.append(Table(label="What other machines would take", columns=columns, rows=rows))
    if without:
        result.append(
            Lines([f"Not tried: {', '.join(n)}: {reason}." for reason, n in without.items()])
        )
    return result


def _host(operators: Sequence[Values]) -> list[Part]:
    """Return what can be done about each reason why operators are on the host."""
    advice = {o.text("reason"): o.text("advice") for o in operators}
    if not advice:
        return []
    rows = [[printable(reason), printable(text)] for reason, text in advice.items()]
    columns = [
        Column(heading="on the host because", numeric=False, wide=True),
        Column(heading="what to do", numeric=False, wide=True),
    ]
    return [Table(label="What to do about operators on the host", columns=columns, rows=rows)]
