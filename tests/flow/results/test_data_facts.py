"""A report says which variant was calibrated on which images."""

from __future__ import annotations

from flow.results.data_facts import DataFacts, calibration_lines

REAL, DISTILLED = DataFacts(name="real", images=1250), DataFacts(name="distilled", images=64)


def test_variants_without_a_set_of_their_own_are_not_named() -> None:
    rows = [("a", None), ("b", REAL), ("c", REAL), ("d", DISTILLED), ("e", None)]
    assert calibration_lines(rows) == [
        "calibrated on 1,250 images, real",
        "           d: on 64 images, distilled",
    ]
    assert calibration_lines(rows[::-1]) == calibration_lines(rows)
    assert calibration_lines([("d", DISTILLED)]) == ["calibrated on 64 images, distilled"]
    assert calibration_lines([("a", None)]) == []
