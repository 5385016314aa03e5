"""What tensors are while a graph is planned."""

from __future__ import annotations

import numpy as np

from relay_passes.integers.elementwise import Operand
from relay_passes.integers.planned_values import PlannedInt8, PlannedPair, PlannedSum

X = PlannedInt8(name="x.q", tensor="x", scale=0.5, bound=128, zero=-128, reach=255)


def test_what_steps_know_of_an_int8_tensor() -> None:
    assert X.operand == Operand("x.q", 0.5, -128, 255)


def test_a_relu_after_a_pair() -> None:
    pair = PlannedPair(kind="add", operators=("sum",), operands=(X, X))
    limited = pair.limited(6.0, "relu6").limited(float("inf"), "relu")
    assert limited.relu and limited.ceiling == 6.0
    assert limited.operators == ("sum", "relu6", "relu")


def test_a_bias_settles_a_relu_and_ends_a_pair() -> None:
    one = np.ones(2)
    pair = PlannedPair(kind="add", operators=("sum",), operands=(X, X))
    acc = PlannedSum(
        name="sum", scale=one * 0.5, bound=one * 100, offset=-one, bias=one * 2, pair=pair
    )
    after = acc.after("relu", owes_relu=True).with_bias(one * 3, "biased")
    assert after.pair is None and not after.owes_relu
    assert after.bound.tolist() == [103.0, 103.0]  # 2 / 0.5 - 1 was added before the ReLU
    assert after.bias.tolist() == [3.0, 3.0] and after.offset.tolist() == [0.0, 0.0]
    assert after.operators == ("relu", "biased")
