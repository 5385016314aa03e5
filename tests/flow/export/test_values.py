"""What tensors are in ONNX."""

from __future__ import annotations

import numpy as np

from flow.export.values import Sum


def test_a_sum_times_integers_is_the_same_real_tensor() -> None:
    ones = np.ones(2)
    total = Sum(
        tensor="x", ratio=4 * ones, offset=3 * ones, bound=10.0, shape=(1, 2), name="x", factor=ones
    )
    more = total.times(np.asarray([2.0, 8.0]))
    assert more.tensor == "x" and more.bound == 80.0
    assert more.ratio.tolist() == [8.0, 32.0] and more.offset.tolist() == [6.0, 24.0]
    assert more.factor.tolist() == [2.0, 8.0]
