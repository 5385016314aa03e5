"""Collecting details: a part that fails is left out, and the others stay."""

from __future__ import annotations

from pathlib import Path

from flow.results.details.collect import collect
from flow.results.details.types import Details
from tests.flow.fakes import DETAILS
from vta_config.errors import CapacityError


def test_parts_that_fail(tmp_path: Path) -> None:
    def too_large() -> object:
        raise CapacityError("conv1", "must fit", hint="use less")

    def mistake() -> object:
        raise IndexError("list index out of range")

    found = collect(
        {"graph": lambda: DETAILS.graph, "memory": too_large, "histograms": mistake}, tmp_path
    )
    assert found.graph == DETAILS.graph and found.memory is None and found.histograms is None
    assert found.left_out["memory"] == "conv1: must fit; use less"
    assert found.left_out["histograms"].startswith(
        "internal error, got IndexError: list index out of range"
    )
    assert (tmp_path / "internal-error-details-histograms.txt").is_file()
    assert found.to_json()["left_out"] == found.left_out


def test_nothing_to_collect() -> None:
    assert collect({}) == Details()
