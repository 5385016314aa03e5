"""How to reproduce a report."""

from __future__ import annotations

from flow.html import reproduce
from flow.html.parts import Code, Facts, Lines, Table
from flow.html.values import Values
from tests.flow.html.reports import small_report


def test_all_that_is_known() -> None:
    code, facts, *tables = reproduce.parts(Values(small_report()))
    assert isinstance(code, Code) and code.text == "vta-flow deploy --model 'my net.onnx'"
    assert isinstance(facts, Facts)
    told = dict(facts.facts)
    assert told["SHA-256 of the model"] == "ab" * 32 and told["seed, images"] == "3"
    assert (
        told["evaluated on"] == "40 images, photos"
        and told["numpy"] == "2.1"
        and told["vta-flow"] == "0.1.0"
    )
    assert told["date"] == "2030-01-02T03:04:05Z"
    options, machine, seconds = tables
    assert isinstance(options, Table) and ["limit", "null"] in options.rows
    assert isinstance(machine, Table) and ["LOG_BLOCK", "4"] in machine.rows
    assert isinstance(seconds, Table) and seconds.rows[-1] == ["total", "3.8"]


def test_an_older_release() -> None:
    report = small_report()
    for key in ("command", "options", "tool", "date", "seconds"):
        del report[key]
    line, facts, machine = reproduce.parts(Values(report))
    assert isinstance(line, Lines) and "does not hold the command" in line.lines[0]
    assert isinstance(facts, Facts) and isinstance(machine, Table)
