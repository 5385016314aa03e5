"""What was chosen, in decibels and as JSON."""

from __future__ import annotations

import json
from math import inf

import pytest

from relay_passes.selection.choices import Candidate, Choice, LayerProof


def candidate(name: str, sqnr_db: float, centred_db: float) -> Candidate:
    return Candidate(name=name, sqnr_db=sqnr_db, centred_db=centred_db)


def test_how_far_behind_in_the_measure_where_it_is_more() -> None:
    found = [candidate("a", 30, 20), candidate("b", 29.5, 25), candidate("c", 28, 24)]
    assert [c.behind(found) for c in found] == [5, 0.5, 2]
    assert found[0].behind(found[:1]) == 0


def test_what_is_added_to_all_classes_does_not_count() -> None:
    found = [
        Candidate(name="a", sqnr_db=30, centred_db=24.5, classifies=True),
        Candidate(name="b", sqnr_db=36, centred_db=25, classifies=True),
    ]
    assert [c.behind(found) for c in found] == [0.5, 0]


def test_nearest_rounding_is_learning_with_infinite_damping() -> None:
    nearest = LayerProof(layer="conv1", damping=inf, correct_bias=True, gain_db=0.0)
    learned = LayerProof(layer="conv2", damping=0.01, correct_bias=False, gain_db=1.23456789)
    assert (nearest.rounding, learned.rounding) == ("nearest", "learned")
    assert nearest.to_json() == {
        "layer": "conv1",
        "rounding": "nearest",
        "damping": None,  # JSON has no infinity
        "correct_bias": True,
        "gain_db": 0.0,
    }
    choice = Choice(
        variant="best",
        chosen="best",
        candidates=(candidate("best", 30.1234567, 29.0),),
        layers=(nearest, learned),
    )
    values = json.loads(json.dumps(choice.to_json(), allow_nan=False))
    assert values["form"] == "best"
    assert values["compared"] == [{"form": "best", "sqnr_db": 30.123457, "centred_sqnr_db": 29.0}]
    assert [v["gain_db"] for v in values["layers"]] == [0.0, pytest.approx(1.234568, abs=1e-12)]
