"""Cells of metrics, and the table of outputs."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from rich.console import Console

from flow.outputs import Output
from flow.results.evaluate import measure
from flow.results.metric_cells import outputs_table, percent_cell, sqnr_cells

OUTPUTS = (Output(name="boxes", shape=(1, 2, 2)), Output(name="scores", shape=(1, 3)))


def test_cells() -> None:
    assert (percent_cell(None), percent_cell(0.12345)) == ("–", "12.35")
    metrics = measure("v", np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), None)
    assert sqnr_cells(metrics) == ("exact", "exact")
    assert sqnr_cells(replace(metrics, sqnr_db=1.0)) == ("1.00", "–")


def test_a_row_for_each_output_and_variant() -> None:
    reference = np.arange(14, dtype=np.float32).reshape(2, 7) + 1
    values = reference.copy()
    values[:, :4] *= 1.1
    found = [
        measure(name, x, reference, None, OUTPUTS)
        for name, x in (("float32", reference), ("a", values), ("b", reference))
    ]
    table = outputs_table(found)
    assert table is not None
    console = Console(file=io.StringIO(), width=100)
    console.print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    lines = [line for line in file.getvalue().splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert [row[:3] for row in cells] == [
        ["boxes", "1×2×2", "a"],
        ["", "", "b"],
        ["scores", "1×3", "a"],
        ["", "", "b"],
    ]
    assert [row[3] for row in cells] == ["20.00", "exact", "exact", "exact"]
    assert outputs_table([measure("a", values, reference, None)]) is None
