"""The SQNR of each layer."""

from __future__ import annotations

import pytest

from flow.html import sqnr
from flow.html.parts import Lines, Table
from flow.html.values import Missing, Values
from tests.flow.html.reports import HOSTILE, small_report


def test_the_worst_first() -> None:
    lines, table = sqnr.parts(Values(small_report()))
    assert isinstance(lines, Lines) and isinstance(table, Table)
    assert [row[0] for row in table.rows] == [
        f"{number}.\u00a0{name}"
        for number, name in ((3, "add"), (2, HOSTILE), (1, "conv1"), (4, "fc"))
    ]
    assert [row[2] for row in table.rows] == ["24.8", "25.0", "40.0", "equal"]
    # What a layer loses: 40 to 25, then 25 (not 40) to 24.75; conv1 reads what no layer makes.
    assert [row[4] for row in table.rows] == ["0.2", "15.0", "–", "−275.2"]
    assert lines.lines == [
        f"Against float32, on 2 images. Most is lost in {HOSTILE} (15.0 dB), compared with the "
        "worst tensor that the layer reads."
    ]
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_layers_of_several_nodes_and_no_graph() -> None:
    report = small_report()
    # The convolution and the addition are one layer, which reads conv1.
    layers = report["variants"][-1]["layers"]
    del layers[1]
    _, table = sqnr.parts(Values(report))
    assert isinstance(table, Table) and table.rows[0][4] == "15.2"
    report["details"] = None
    table = sqnr.parts(Values(report))[-1]
    assert isinstance(table, Table) and {row[4] for row in table.rows} == {"–"}


def test_nothing_compared() -> None:
    report = small_report()
    for layer in report["variants"][-1]["layers"]:
        layer["sqnr_db"] = None
    with pytest.raises(Missing, match="sqnr_db"):
        sqnr.parts(Values(report))
    with pytest.raises(Missing, match="variants: other"):
        sqnr.parts(Values(report | {"deployed": "other"}))
