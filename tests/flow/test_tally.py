"""flow.tally: how differences are counted and told."""

from __future__ import annotations

import numpy as np

from flow.tally import Tally, difference


def test_tally_remembers_the_first_difference() -> None:
    tally = Tally()
    tally.compare("a", np.arange(4, dtype=np.int8).reshape(2, 2), np.arange(4, dtype=np.int8))
    tally.compare("b", np.array([1, 5, 3], np.int8), np.array([1, 2, 3], np.int8))
    tally.compare("c", np.zeros(3, np.int8), np.zeros(3, np.int32))
    assert (tally.tensors, tally.mismatches) == (3, 2)
    assert tally.first == "b: 1 of 3 values differ, the first at 1: 5 instead of 2"


def test_difference_in_words() -> None:
    small, large = np.zeros(3, np.int8), np.zeros(4, np.int8)
    assert difference(small, large) == "int8[3] instead of int8[4]"
    nan = np.array([np.nan], np.float32)
    assert difference(nan, nan) == "1 of 1 values differ, the first at 0: nan instead of nan"
