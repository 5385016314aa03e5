"""Linear interpolation along one axis, compared with exact fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tvm import relax

from relay_passes.operators.averages import averaged, is_average
from relay_passes.operators.interpolation import (
    KNOWN,
    MOST_TOTAL,
    coordinates,
    interpolated_line,
    line_of_matrix,
)
from relay_passes.operators.movement import interpolated
from tests.relay_passes.models import CNN


def resized(
    size: tuple[int, int],
    mode: str = "half_pixel",
    shape: tuple[int, ...] = (1, 2, 4, 5),
    **kw: Any,
) -> Any:
    """Return a Resize of a map, its type known."""
    net = CNN(shape)
    options = {"layout": "NCHW", "method": "linear", "rounding_method": "", **kw}
    call = relax.op.image.resize2d(net.data, size, coordinate_transformation_mode=mode, **options)
    return net.builder.normalize(call)


def exactly(before: int, after: int, mode: str) -> list[Fraction]:
    """Return the coordinates of ONNX's Resize, within the map."""
    found = []
    for place in map(Fraction, range(after)):
        if mode == "align_corners":
            at = place * (before - 1) / (after - 1) if after > 1 else Fraction(0)
        elif mode == "asymmetric":
            at = place * before / after
        elif mode == "pytorch_half_pixel" and after == 1:
            at = Fraction(0)
        else:
            at = (place + Fraction(1, 2)) * before / after - Fraction(1, 2)
        found.append(min(max(at, Fraction(0)), Fraction(before - 1)))
    return found


@given(
    before=st.integers(2, 20),
    after=st.integers(1, 70),
    mode=st.sampled_from(sorted(KNOWN)),
    axis=st.sampled_from([2, 3]),
)
def test_factors_are_next_to_the_coordinates(before: int, after: int, mode: str, axis: int) -> None:
    shape, size = [1, 2, 3, 3], [3, 3]
    shape[axis], size[axis - 2] = before, after
    line = interpolated_line(resized((size[0], size[1]), mode, tuple(shape)))
    if before == after:
        assert line is None
        return
    assert line is not None and line.axis == axis and line.total <= MOST_TOTAL
    exact = exactly(before, after, mode)
    wanted = np.zeros((after, before))
    for place, at in enumerate(exact):
        low = int(at)
        wanted[place, low] += float(1 - (at - low))
        wanted[place, min(low + 1, before - 1)] += float(at - low)
    matrix = line.matrix(before)
    assert (matrix.sum(axis=1) == line.total).all()
    # As near as a sum of two factors goes, and exactly where it may be.
    off = np.abs(matrix / line.total - wanted).max()
    assert off <= 0.5 / MOST_TOTAL + 1e-9
    if all((at * MOST_TOTAL).denominator == 1 for at in exact):
        assert off < 1e-9
        assert line.total == max((at.denominator for at in exact), default=1)
    found = line_of_matrix(matrix, axis)
    assert found is not None
    np.testing.assert_array_equal(found.matrix(before), matrix)
    x = np.random.default_rng(before).integers(-128, 128, shape)
    movement = interpolated(tuple(shape), line)
    sums = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    np.testing.assert_array_equal(movement.move([x]), sums)
    assert movement.shape == sums.shape


@pytest.mark.parametrize(
    ("call", "total"),
    [
        (resized((8, 5)), 4),
        (resized((4, 20)), 8),
        (resized((8, 5), "align_corners"), 128),
        (resized((7, 5), "align_corners"), 2),
        (resized((2, 5), "asymmetric"), 1),
        (resized((8, 10)), None),
        (resized((4, 5)), None),
        (resized((8, 5), method="cubic"), None),
        (resized((8, 5), method="nearest_neighbor", rounding_method="round"), None),
        (resized((8, 5), "tf_half_pixel_for_nn"), None),
        (resized((2, 8), shape=(1, 2, 4, 8), layout="NHWC"), None),
    ],
)
def test_which_integers_express(call: Any, total: int | None) -> None:
    assert is_average(call) is (total is not None)
    line = interpolated_line(call)
    assert (None if line is None else line.total) == total
    if total is not None:
        assert averaged(call) == total


def test_phases_of_whole_factors_are_parts() -> None:
    line = interpolated_line(resized((4, 20)))
    assert line is not None
    movement = interpolated((1, 2, 4, 5), line)
    assert movement.step == (1, 4) and len(movement.parts) == 8
    line = interpolated_line(resized((7, 5), "align_corners"))
    assert line is not None and interpolated((1, 2, 4, 5), line).step == (1, 1)


@pytest.mark.parametrize(
    "matrix", [[[1, 2, 1]], [[1, 1], [1, 2]], [[-1, 2]], [[1, 0, 1]], [[0, 0]], [[100, 29]]]
)
def test_matrices_that_do_not_interpolate(matrix: list[list[int]]) -> None:
    assert line_of_matrix(np.asarray(matrix, np.int32), 2) is None


def test_a_map_of_one_row_is_where_pytorch_has_it() -> None:
    assert coordinates(4, 1, "pytorch_half_pixel").tolist() == [0.0]
    assert coordinates(4, 1, "half_pixel").tolist() == [1.5]
