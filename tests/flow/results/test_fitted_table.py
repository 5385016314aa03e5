"""flow.results.fitted_table: fewer columns where they do not fit, whole names."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flow.results.fitted_table import FittedTable


def shown(width: int) -> str:
    table = FittedTable()
    table.add("variant", is_number=False)
    for heading, rank in (("ima-\nges", 3), ("top-1\n(%)", 0), ("error", 2), ("SQNR\n(dB)", 1)):
        table.add(heading, rank=rank)
    table.add("last", rank=3)
    table.add_row("a_long_name", "599", "99.33", "1e-8", "31.25", "z")
    table.add_section()
    table.add_row("b", "1", "2.00", "0", "3.00", "z")
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_all_columns_where_they_fit() -> None:
    text = shown(80)
    assert "│ a_long_name │  599 │ 99.33 │  1e-8 │ 31.25 │    z │" in text
    assert "wider" not in text and "├─" in text


@pytest.mark.parametrize(
    ("width", "row", "left_out"),
    [
        (50, "│ a_long_name │  599 │ 99.33 │  1e-8 │ 31.25 │", "last"),
        (44, "│ a_long_name │ 99.33 │  1e-8 │ 31.25 │", "images, last"),
        (32, "│ a_long_name │ 99.33 │ 31.25 │", "images, error, last"),
        (24, "│ a_long_name │ 99.33 │", "images, error, SQNR (dB), last"),
    ],
)
def test_columns_of_the_highest_rank_are_left_out_first(
    width: int, row: str, left_out: str
) -> None:
    text = shown(width)
    assert row in text
    assert f"in a wider terminal also: {left_out}" in " ".join(text.split())


def test_nothing_is_cut_even_where_nothing_fits() -> None:
    text = shown(14)
    cells = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert "".join(cells).startswith("a_long_name")
