"""Averages: which ones integers express, and what their sums are multiplied by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.operators.averages import averaged, is_average, sum_factors, window_counts
from tests.relay_passes.models import CNN


def bound(call: Any, shape: tuple[int, ...] = (1, 2, 4, 5)) -> Any:
    """Return a call on a float tensor of `shape`, its type known."""
    net = CNN(shape)
    return net.builder.normalize(call(net.data))


def pool(*args: Any, **options: Any) -> Any:
    return lambda x: relax.op.nn.avg_pool2d(x, *args, **options)


@pytest.mark.parametrize(
    ("call", "count"),
    [
        (lambda x: relax.op.mean(x, [2, 3], keepdims=True), 20),
        (lambda x: relax.op.mean(x, [-1, -2], keepdims=True), 20),
        (lambda x: relax.op.mean(x, [2, 3]), None),
        (lambda x: relax.op.mean(x, [3], keepdims=True), None),
        (lambda x: relax.op.mean(x, keepdims=True), None),
        (pool((2, 2), (2, 2)), 4),
        (pool((3, 3), (1, 1), (1, 1, 1, 1)), 36),
        (pool((3, 3), (1, 1), (1, 1, 1, 1), count_include_pad=True), 9),
        (pool((2, 2), (1, 1), (0, 0, 0, 0), dilation=(2, 1)), 4),
        (pool((3, 2), (1, 1), (1, 1, 1, 1), dilation=(1, 2), count_include_pad=True), 6),
        (pool((2, 2), (1, 1), (1, 1, 1, 1), dilation=(2, 1)), None),
        (pool((2, 2), layout="NHWC"), None),
        (lambda x: relax.op.nn.relu(x), None),
    ],
)
def test_which_averages_integers_express(call: Any, count: int | None) -> None:
    value = bound(call)
    assert is_average(value) is (count is not None)
    if count is not None:
        assert averaged(value) == count


def test_too_large_factors() -> None:
    call = pool((9, 9), (1, 1), (4, 4, 4, 4))
    assert not is_average(bound(call, (1, 2, 20, 20)))


def test_counts_are_the_pixels_in_each_window() -> None:
    value = bound(pool((3, 2), (2, 1), (1, 0, 1, 1)))
    ones = np.pad(np.ones((4, 5), int), ((1, 1), (0, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(ones, (3, 2))[::2]
    np.testing.assert_array_equal(window_counts(value), windows.sum((2, 3)))


def test_factors_make_sums_comparable() -> None:
    counts = np.asarray([[4, 6], [6, 9]])
    assert sum_factors(counts).tolist() == [[9, 6], [6, 4]]
