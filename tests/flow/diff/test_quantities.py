"""flow.diff.quantities: values, changes and words of quantities."""

from __future__ import annotations

from math import inf

import pytest

from flow.diff.quantities import OF_LAYERS, OF_VARIANTS, of_layers, of_variant, relative
from tests.flow.diff.reports import report, variant


@pytest.mark.parametrize(
    ("name", "old", "new", "change", "text"),
    [
        ("top1", 0.8, 0.9, 10.0, "+10.00"),
        ("agreement", 0.9, 0.8955, -0.45, "-0.45"),
        ("sqnr", 30.0, 29.5, -0.5, "-0.50"),
        ("sqnr", inf, inf, 0.0, "+0.00"),
        ("sqnr", inf, 30.0, -inf, ""),
        ("cycles", 1000.0, 1010.0, 10.0, "+10 (+1.00 %)"),
        ("mismatches", 0.0, 3.0, 3.0, "+3"),
        ("ms", 1.5, 0.75, -0.75, "-0.75 (-50.00 %)"),
        ("cycles", None, 5.0, None, ""),
    ],
)
def test_changes(
    name: str, old: float | None, new: float | None, change: float | None, text: str
) -> None:
    quantity = OF_VARIANTS[name]
    assert quantity.change(old, new) == change and quantity.change_text(old, new) == text


def test_words_of_values() -> None:
    shown = {
        "top1": (0.5, "50.00"), "sqnr": (inf, "exact"), "cycles": (12345.0, "12,345"),
        "ms": (1.23456, "1.235"), "programs": (None, "–"),
    }  # fmt: skip
    assert {k: OF_VARIANTS[k].text(value) for k, (value, _) in shown.items()} == {
        k: text for k, (_, text) in shown.items()
    }
    assert relative(0.0, 1.0) is None and relative(2.0, 3.0) == 0.5


def test_quantities_of_a_report() -> None:
    best = variant(report())
    assert of_variant(best) == {
        "top1": best["top1"], "top5": best["top5"], "agreement": best["agreement"], "images": 20,
        "sqnr": best["sqnr_db"], "centred_sqnr": best["centred_sqnr_db"], "cycles": 1234,
        "ms": 0.01234, "dram_bytes": 4096, "vta_share": 0.9, "host_operators": 1, "programs": 2,
        "crossing_bytes": 4096, "mismatches": 0, "requantization_error": 2e-8, "weight_bytes": 18,
    }  # fmt: skip
    assert set(of_variant(best)) == set(OF_VARIANTS)
    assert set(of_layers(best)["conv1"]) == set(OF_LAYERS)
    float32 = of_variant(variant(report(), "float32"))
    assert set(float32) == {"top1", "top5", "agreement", "images"}


def test_results_that_are_equal_have_an_infinite_sqnr() -> None:
    best = variant(report()) | {"sqnr_db": None, "centred_sqnr_db": None}
    assert of_variant(best)["sqnr"] == of_variant(best)["centred_sqnr"] == inf
    del best["centred_sqnr_db"]  # as in a report of long ago
    assert "centred_sqnr" not in of_variant(best)


def test_layers_of_older_reports_have_cycles_alone() -> None:
    best = variant(report())
    del best["layers"]
    assert of_layers(best) == {"conv1": {"layer_cycles": 1234.0}}
    assert "weight_bytes" not in of_variant(best)
