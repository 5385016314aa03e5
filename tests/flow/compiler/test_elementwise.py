"""Arithmetic of numbers and of arrays of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flow.compiler.elementwise import element, gcd, lcm, least, look_up, most, where

NUMBERS = [(1, 6), (4, 6), (12, 18), (7, 7)]


@pytest.mark.parametrize("function", [least, most, gcd, lcm])
def test_arrays_are_numbers_side_by_side(function: Any) -> None:
    first, second = np.array(NUMBERS).T
    expected = [function(a, b) for a, b in NUMBERS]
    assert function(first, second).tolist() == expected
    assert function(first, 6).tolist() == [function(a, 6) for a, _ in NUMBERS]


def test_known_values() -> None:
    assert (least(3, 2, 5), most(3, 2, 5), gcd(12, 18), lcm(4, 6)) == (2, 5, 6, 12)
    assert where(True, 1, 2) == 1 and where(False, 1, 2) == 2
    both: Any = np.array([True, False])
    assert where(both, 1, 2).tolist() == [1, 2]  # type: ignore[attr-defined]
    assert element(7, 3) == 7 and element(np.array([5, 6]), 1) == 6  # type: ignore[type-var]


def test_a_function_of_numbers_is_called_once_for_each() -> None:
    calls: list[tuple[int, int]] = []

    def product(a: int, b: int) -> int:
        calls.append((a, b))
        return a * b

    assert look_up(product, 3, 4) == 12
    first: Any = np.array([2, 3, 2])
    assert look_up(product, first, 5).tolist() == [10, 15, 10]  # type: ignore[attr-defined]
    assert calls == [(3, 4), (2, 5), (3, 5)]
