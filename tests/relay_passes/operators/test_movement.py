"""Movements: what copies where, compared with numpy's own ways to move."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.operators.movement import (
    Movement,
    Run,
    along_axes,
    enlarged,
    joined,
    nchw,
    of_places,
    runs,
)

SHAPE = (2, 4, 6, 3)
X = np.arange(np.prod(SHAPE)).reshape(SHAPE)


def one(movement: Movement | None) -> Movement:
    assert movement is not None
    return movement


def test_places_along_axes() -> None:
    movement = one(along_axes(SHAPE, {1: np.asarray([3, 0]), 2: np.asarray([-1, 5, 5])}, fill=-7))
    result = movement.move([X])
    assert movement.shape == result.shape == (2, 2, 3, 3)
    assert (result[:, :, 0] == -7).all()
    np.testing.assert_array_equal(result[:, :, 1:], X[:, [3, 0]][:, :, [5, 5]])


def test_images_stay_apart_and_something_is_left() -> None:
    assert along_axes(SHAPE, {0: np.asarray([1, 0])}) is None
    assert along_axes(SHAPE, {2: np.asarray([], np.int64)}) is None
    assert one(along_axes((1, 5), {1: np.arange(2)})).shape == (1, 2, 1, 1)
    assert nchw((1, 5)) == (1, 5, 1, 1)


def test_side_by_side() -> None:
    movement = joined([SHAPE, (2, 2, 6, 3), SHAPE])
    parts = [X, X[:, :2] + 500, X + 1000]
    np.testing.assert_array_equal(movement.move(parts), np.concatenate(parts, axis=1))


def test_enlarged_by_whole_factors() -> None:
    result = enlarged(SHAPE, (2, 3)).move([X])
    np.testing.assert_array_equal(result, X.repeat(2, axis=2).repeat(3, axis=3))


@pytest.mark.parametrize("block", [2, 3])
def test_depth_and_space(block: int) -> None:
    shape = (1, 2 * block**2, 3, 2)
    x = np.arange(np.prod(shape)).reshape(shape)
    views = x.reshape(1, block, block, 2, 3, 2).transpose(0, 3, 4, 1, 5, 2)
    space = views.reshape(1, 2, 3 * block, 2 * block)
    there = one(of_places(space[0], shape))
    np.testing.assert_array_equal(there.move([x]), space)
    back = views.transpose(0, 3, 5, 1, 2, 4).reshape(shape)  # of the places in `space`
    places = np.arange(space.size).reshape(space.shape)
    inverse = places.reshape(1, 2, 3, block, 2, block).transpose(0, 3, 5, 1, 2, 4).reshape(shape)
    again = one(of_places(inverse[0], space.shape))
    np.testing.assert_array_equal(again.move([space]), x)
    np.testing.assert_array_equal(back, x)
    assert there.step == (block, block) and again.step == (1, 1)


def test_pictures_that_are_no_parts() -> None:
    turned = np.arange(9).reshape(1, 3, 3).transpose(0, 2, 1)
    assert of_places(turned, (1, 1, 3, 3)) is None


def test_views() -> None:
    same = one(along_axes(SHAPE, {}))
    assert same.is_view and same.parts[0].keeps_pixels
    assert not one(along_axes(SHAPE, {1: np.asarray([1, 0, 2, 3])})).is_view
    assert not one(along_axes(SHAPE, {3: np.asarray([2, 1, 0])})).is_view
    assert not enlarged(SHAPE, (2, 1)).is_view
    assert not joined([SHAPE, SHAPE]).is_view


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([0, 1, 2], [Run(0, 0, 1, 3)]),
        ([-1, 4, 6, 8, -1], [Run(1, 4, 2, 3)]),
        ([3, 3, 1], [Run(0, 3, 0, 2), Run(2, 1, 0, 1)]),
        ([2, 1], [Run(0, 2, 0, 1), Run(1, 1, 0, 1)]),
        ([-1], []),
    ],
)
def test_runs(line: list[int], expected: list[Run]) -> None:
    assert [*runs(np.asarray(line))] == expected
