"""Weights to the nearest integer, and integers that were given."""

from __future__ import annotations

import numpy as np

from relay_passes.params import QuantParams
from relay_passes.rounding.nearest import GivenWeights, NearestRounder


def test_half_up_and_never_minus_128() -> None:
    rows = np.float32([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], [126.4, 126.5, 127.5, 200, -127.6, -200]])
    assert NearestRounder()("w", rows, QuantParams(scale=(1.0,))).tolist() == [
        [-2, -1, 0, 1, 2, 3],
        [126, 127, 127, 127, -127, -127],
    ]


def test_bits_and_scales_of_blocks() -> None:
    rows = np.full((5, 1), 1.0, np.float32)
    blocks = QuantParams(scale=(0.5, 0.25, 0.125), bits=4, granularity="block")
    assert NearestRounder(block=2)("w", rows, blocks).ravel().tolist() == [2, 2, 4, 4, 7]
    assert NearestRounder(block=16).for_block(2) == NearestRounder(block=2)


def test_given_integers_are_taken_by_name() -> None:
    given = {"a": np.int8([[1]]), "b": np.int8([[2]])}
    rounder = GivenWeights(weights=given)
    assert rounder("b", np.zeros((1, 1), np.float32), QuantParams(scale=(1.0,))) is given["b"]
    assert rounder.for_block(4) is rounder


def test_neither_learns() -> None:
    for rounder in (NearestRounder(), GivenWeights(weights={})):
        assert rounder.learned({}, noise={}, dampings={}) is rounder and not rounder.needs
