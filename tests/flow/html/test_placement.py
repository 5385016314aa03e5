"""What ran where, and why."""

from __future__ import annotations

from flow.html import placement
from flow.html.parts import Facts, Lines, Table
from flow.html.values import Values
from tests.flow.html.reports import HOSTILE, small_report


def test_operators_by_reason() -> None:
    facts, table = placement.parts(Values(small_report()))
    assert isinstance(facts, Facts) and isinstance(table, Table)
    assert dict(facts.facts) == {
        "programs for VTA": "2",
        "multiply-accumulates per image": "2.00 million",
        "of these on VTA": "75.00 %",
        "copied between host and VTA": "4.0 KiB",
    }
    assert table.rows == [
        ["groups must be 1, got 2", "2", f"{HOSTILE} (Conv), odder (Conv)"],
        ["an operator on the host needs floats", "1", "conv1 (dequantize)"],
        ["post-processing of the outputs, behind VTA", "1", "s (Softmax)"],
    ]


def test_only_the_ends() -> None:
    report = small_report()
    report["placement"] |= {"fallbacks": [], "behind": [], "vta_mac_share": None}
    facts, line = placement.parts(Values(report))
    assert isinstance(facts, Facts) and ("of these on VTA", "–") in facts.facts
    assert isinstance(line, Lines)
    assert line.lines == ["The host only quantizes the input and dequantizes the outputs."]


def test_many_operators() -> None:
    report = small_report()
    one = report["placement"]["fallbacks"][0]
    report["placement"]["fallbacks"] = [one | {"node": f"n{k}"} for k in range(45)]
    table = placement.parts(Values(report))[1]
    assert isinstance(table, Table) and table.rows[0][1] == "45"
    assert str(table.rows[0][2]).endswith("n39 (Conv) and 5 more")
