"""The section of what would help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flow.explain.words import answered
from flow.html import explanation
from flow.html.page import sections
from flow.html.parts import Facts, Lines, Table
from flow.html.values import Missing, Values
from flow.results.explanation import Change, HostOperator
from tests.flow.explain.test_words import explanation as small
from tests.flow.html.reports import HOSTILE, small_report


def test_a_layer() -> None:
    own = small().changes
    change = replace(own[0], sram_bytes=-98304, multipliers=768)
    found = answered(small(changes=(change, *own[1:])))
    facts, table, lines = explanation.parts(
        Values(small_report() | {"explanation": found.to_json()})
    )
    assert isinstance(facts, Facts) and isinstance(table, Table) and isinstance(lines, Lines)
    assert dict(facts.facts)["would help"] == "block of 32 (-70.0 %)"
    assert table.rows == [
        ["block of 32", "300", "1,000", "−70.00", "−96", "+768"],
        ["bus of 128 bits", "995", "1,000", "−0.50", "0", "0"],
    ]
    assert lines.lines == ["Not tried: wgt buffer ×2: cannot be built."]


def test_a_network_with_the_host() -> None:
    operator = HostOperator(name="t", label="n", reason=HOSTILE, advice="replace it")
    changes = (Change(name="one", sets={}, cycles=10, base_cycles=10),)
    found = answered(small(layer=None, host=(operator, operator), changes=changes))
    facts, host, table = explanation.parts(Values({"explanation": found.to_json()}))
    assert isinstance(facts, Facts) and isinstance(host, Table) and isinstance(table, Table)
    assert host.rows == [[HOSTILE, "replace it"]]
    assert table.rows[0][3] == "0.00"


def test_not_asked_for() -> None:
    for report in (small_report(), {"explanation": None}):
        with pytest.raises(Missing):
            explanation.parts(Values(report))
        assert "explanation" not in [section.anchor for section in sections(Values(report))]
    asked = Values(small_report() | {"explanation": answered(small()).to_json()})
    assert "explanation" in [section.anchor for section in sections(asked)]
    with pytest.raises(Missing):
        explanation.parts(Values({"explanation": small().to_json()}))
