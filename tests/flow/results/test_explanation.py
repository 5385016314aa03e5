"""What an explanation knows of its numbers, and its JSON."""

from __future__ import annotations

import json

import pytest

from flow.results.explanation import PARTS, Change, Reads
from tests.flow.explain.test_words import explanation, layer


def test_shares() -> None:
    change = Change(
        name="c", sets={}, cycles=75, base_cycles=100, layers={"a": 5}, base_layers={"a": 10}
    )
    assert (change.share, change.share_of("a"), change.share_of("b")) == (-0.25, -0.5, None)
    assert Change(name="c", sets={}, reason="r").share is None
    assert Change(name="c", sets={}, cycles=1, base_cycles=0).share is None


def test_reads() -> None:
    assert Reads(bytes=300, distinct_bytes=200).times == pytest.approx(1.5)
    assert Reads(bytes=0, distinct_bytes=0).times == 0.0


def test_sums() -> None:
    found = explanation(layers=(layer(), layer(name="b", cycles=500, parts={"alu": 500})))
    assert found.shown_cycles == 1500
    assert set(found.parts) == set(PARTS)
    assert (found.parts["alu"], found.parts["gemm"], found.parts["out"]) == (650, 800, 0)
    assert layer().best_cycles == 800 and layer(bus_cycles=900).best_cycles == 900


def test_json() -> None:
    values = explanation().to_json()
    assert json.loads(json.dumps(values)) == values
    assert values["machine"]["LOG_BLOCK"] == 4 and values["layers"][0]["parts"]["gemm"] == 800
    assert values["changes"][2]["cycles"] is None
