"""The headline numbers."""

from __future__ import annotations

from typing import Any

import pytest

from flow.html import headline
from flow.html.parts import Alert, Tile, Tiles
from flow.html.values import Missing, Values
from tests.flow.html.reports import small_report


def tiles(report: dict[str, Any]) -> dict[str, Tile]:
    found = headline.parts(Values(report))[-1]
    assert isinstance(found, Tiles)
    return {tile.name: tile for tile in found.tiles}


def test_numbers_of_the_deployed_variant() -> None:
    found = tiles(small_report())
    assert found["Top-1 accuracy"].value == "95.00 %"
    assert found["Top-1 accuracy"].note == "float32: 95.00 % (0.00 points); 40 images"
    assert found["Agreement"].value == "97.50 %" and found["SQNR"].value == "30.0 dB"
    latency = found["Latency per image"]
    assert latency.value == "0.018 ms"
    assert latency.note == (
        "1,800 cycles, 55,556 images per second; without the operators on the host"
    )
    assert found["On VTA"].value == "75.00 %" and "3 operators on the host" in found["On VTA"].note
    assert found["Engines"].state == "good" and "30 tensors of 4 images" in found["Engines"].note


def test_engines_that_differ_and_a_run_that_stopped() -> None:
    report = small_report()
    report["exact"] = {"images": 4, "tensors": 30, "mismatches": 2, "first": "conv1 on fsim"}
    report["stopped"] = "the run has not ended"
    assert tiles(report)["Engines"].value == "2 differ"
    assert tiles(report)["Engines"].note == "of 30 tensors of 4 images; first: conv1 on fsim"
    alert = headline.parts(Values(report))[0]
    assert isinstance(alert, Alert)
    assert alert.text == "Not all variants were measured: the run has not ended."


def test_no_classifier_and_nothing_on_vta() -> None:
    report = small_report() | {"latency": None, "exact": None, "placement": None}
    own = report["variants"][-1]
    own |= {"top1": None, "agreement": None, "sqnr_db": None, "centred_sqnr_db": None}
    found = tiles(report)
    assert list(found) == ["SQNR", "Latency", "Engines"]
    assert found["SQNR"].value == "exact" and found["Latency"].note == "nothing runs on VTA"
    assert found["Engines"].value == "not compared"


def test_a_deployed_variant_that_is_not_there() -> None:
    with pytest.raises(Missing, match="variants: other"):
        headline.parts(Values(small_report() | {"deployed": "other"}))
