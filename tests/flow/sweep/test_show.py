"""A sweep as tables and as CSV."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from flow.results.sweep_document import AccuracyFields
from flow.sweep.show import (
    accuracy_cell,
    better_text,
    changes_text,
    choice_text,
    csv_text,
    render,
    row_text,
    value_text,
    varying,
)
from tests.flow.sweep.sweeps import sweep


def shown(*names: str, **how: bool) -> str:
    console = Console(width=160, file=io.StringIO(), force_terminal=False)
    console.print(render(sweep(*names, **how)))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_tables() -> None:
    text = shown("net", "other[/red]net")
    assert "net: 2 of 5 machines on the front" in text and "other[/red]net: 2 of 5" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("│")]
    cells = [cell for cell in rows[0] if cell != "│"]
    # Block 32 on a bus of 128 bits: half the steps of block 16, and half of what the bus takes.
    assert cells[:5] == ["6", "32", "32KiB", "128", "6.500"]
    assert "bus 64 → 128" in text and "−15.1" in text  # the median of 11.5 / 13 and 6.5 / 8
    assert "90.00" in text
    assert "top-1" not in shown(accuracy=False)


def test_csv_has_a_line_for_each_row() -> None:
    found = sweep()
    rows = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert len(rows) == 8
    assert (rows[0]["machine_id"], rows[0]["block"], rows[0]["inp_buffer"]) == ("1", "16", "32768")
    assert (rows[0]["cycles"], rows[0]["on_front"], rows[0]["dominated_by"]) == (
        "1300000", "false", "2",
    )  # fmt: skip
    assert rows[0]["better_in"].startswith("latency 13 → 11.5 ms, energy ")
    assert rows[0]["other_choices"] == "bus 64 → 128"
    assert rows[2]["state"] == "failed" and "must fit" in rows[2]["reason"]
    assert rows[2]["cycles"] == rows[2]["on_front"] == rows[2]["area_mm2"] == ""
    assert rows[7]["state"] == "waiting"
    for row, own in zip(rows, found.rows, strict=True):
        assert row["ms"] == ("" if own.ms is None else str(own.ms))


def test_what_dominates_as_text() -> None:
    found = sweep()
    first = found.rows[0]
    assert first.dominated_by is not None
    assert changes_text(first.dominated_by) == "bus 64 → 128"
    assert better_text(first.dominated_by, first.accuracy).startswith(
        "latency 13 → 11.5 ms, energy "
    )
    by = first.dominated_by
    assert (by.machine_id, by.variant) == (2, "profiled_fused")
    assert found.rows[1].dominated_by is None
    assert row_text(first, varying(found)) == "block 16, inp-buffer 32KiB, bus 64"
    assert choice_text("config", "a\nb") == "a\\nb"


def accuracy(quantity: str, value: float | None) -> AccuracyFields:
    return AccuracyFields(
        quantity=quantity, value=value, images=1, top1=None, top5=None, agreement=None,
        sqnr_db=None, centred_sqnr_db=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("own", "cell"),
    [
        (accuracy("top-1", 0.7654), "76.54"),
        (accuracy("centred SQNR", 31.234), "31.23"),
        (accuracy("SQNR", None), "exact"),
        (None, "–"),
    ],
)
def test_accuracies(own: AccuracyFields | None, cell: str) -> None:
    assert accuracy_cell(own) == cell


def test_values_have_units() -> None:
    assert value_text("latency", 12.3456) == "12.35 ms"
    assert value_text("area", 1.5) == "1.5 mm²"
    assert value_text("accuracy", 0.5, accuracy("agreement", 0.5)) == "50.00 %"
    assert value_text("accuracy", 20, accuracy("SQNR", 20)) == "20.00 dB"
    assert value_text("host MACs", 1234.0) == "1,234"
