"""Whether a report holds a part of the details."""

from __future__ import annotations

import pytest

from flow.html.details import of_details
from flow.html.values import Missing, Values


def test_parts_of_details() -> None:
    report = Values({"details": {"graph": {}, "memory": None, "left_out": {"memory": "too large"}}})
    assert of_details(report, "graph").path == "details"
    with pytest.raises(Missing, match=r"^details.memory \(too large\)$"):
        of_details(report, "memory")
    with pytest.raises(Missing, match=r"^details.histograms$"):
        of_details(report, "histograms")
    for empty in ({}, {"details": None}):
        with pytest.raises(Missing, match="^details$"):
            of_details(Values(empty), "graph")
