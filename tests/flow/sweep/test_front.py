"""The front is what comparing every pair gives; what dominates a point does dominate it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.sweep.front import (
    Point,
    better_in,
    differences,
    dominates,
    dominating,
    effects,
    front,
)

AXES = {"block": (16, 32), "bus": (64, 128, 256)}


def point(key: int, *numbers: float, **choices: int) -> Point:
    return Point(key=key, numbers=dict(zip("abc", numbers, strict=False)), choices=choices)


@given(
    st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=40),
)
def test_front_is_brute_force(rows: list[tuple[int, int, int]]) -> None:
    points = [point(k, *map(float, row)) for k, row in enumerate(rows)]
    expected = [
        p
        for p in points
        if not any(
            all(q.numbers[n] <= p.numbers[n] for n in "abc")
            and any(q.numbers[n] < p.numbers[n] for n in "abc")
            for q in points
        )
    ]
    best = front(points)
    assert best == expected
    for p in points:
        by = dominating(p, best)
        assert (by is None) == (p in best)
        if by is not None:
            assert dominates(by.numbers, p.numbers)
            better = better_in(by.numbers, p.numbers)
            assert better and all(by.numbers[n] < p.numbers[n] for n in better)


def test_what_dominates() -> None:
    assert dominates({"a": 1, "b": 2}, {"a": 1, "b": 3})
    assert not dominates({"a": 1, "b": 2}, {"a": 1, "b": 2})
    assert not dominates({"a": 1, "b": 2}, {"a": 2, "b": 1})
    assert front([]) == []


def test_the_nearest_one_is_named() -> None:
    far = point(0, 1.0, 1.0, block=32, bus=256)
    near = point(1, 2.0, 0.5, block=16, bus=128)
    nearer = point(2, 1.9, 0.6, block=16, bus=256)
    beaten = point(3, 3.0, 3.0, block=16, bus=64)
    best = front([far, near, nearer, beaten])
    assert best == [far, near, nearer]
    # near and nearer differ in the bus alone; near gains 1.5 · 6, nearer 1.58 · 5.
    assert dominating(beaten, best) == near
    assert differences(near, beaten) == ["bus"]
    assert differences(far, beaten) == ["block", "bus"]


def test_zeros_and_negative_numbers() -> None:
    best = front([point(0, 0.0, -3.0), point(1, 0.0, -1.0), point(2, 1.0, -3.0)])
    assert [p.key for p in best] == [0]
    assert dominating(point(1, 0.0, -1.0), best) == best[0]


def test_effects_compare_what_differs_in_one_choice() -> None:
    points = [
        point(k, 1000 / block + 64 / bus, float(block * bus), block=block, bus=bus)
        for k, (block, bus) in enumerate(itertools.product(*AXES.values()))
        if (block, bus) != (32, 256)
    ]
    found = effects(points, AXES)
    assert [(e.axis, e.low, e.high, e.pairs) for e in found] == [
        ("block", 16, 32, 2),
        ("bus", 64, 128, 2),
        ("bus", 128, 256, 1),
    ]
    assert found[0].factors["b"] == 2
    assert found[0].differences["a"] == pytest.approx(-31.25)
    assert found[0].high_dominates == found[0].low_dominates == 0
    same = effects([point(0, 1.0, 0.0, x=1), point(1, 0.5, 0.0, x=2)], {"x": (1, 2)})
    assert (same[0].factors, same[0].high_dominates) == ({"a": 0.5, "b": None}, 1)
