"""The two tables of operators belong together."""

from __future__ import annotations

from flow.compiler.operators.table import LOWERERS
from relay_passes.operators.table import OPERATORS


def test_every_operator_has_its_two_files_and_rows() -> None:
    assert list(LOWERERS) == list(OPERATORS)
    for kind, row in OPERATORS.items():
        assert row.kind == kind and row.start.__module__ == f"relay_passes.operators.{kind}"
        assert row.has_weight == (row.integer is not None)
