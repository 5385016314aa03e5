"""Values of the planner: a ReLU that is owed is done before what follows it."""

from __future__ import annotations

import numpy as np

from relay_passes.integers.planned_values import PlannedPair, PlannedSum, PlannedTensor


def a_sum(*, owes_relu: bool) -> PlannedSum:
    return PlannedSum(
        name="a",
        scale=np.asarray([0.5, 0.25]),
        bound=np.asarray([100.0, 10.0]),
        offset=np.asarray([3.0, 0.0]),
        bias=np.asarray([1.0, -1.0]),
        owes_relu=owes_relu,
        operators=("a",),
    )


def test_a_bias_comes_after_the_relu_that_is_owed() -> None:
    owed = a_sum(owes_relu=True).with_bias(np.asarray([2.0, 2.0]), "b")
    assert owed.bound.tolist() == [105.0, 14.0] and owed.offset.tolist() == [0.0, 0.0]
    assert owed.bias.tolist() == [2.0, 2.0] and owed.operators == ("a", "b")
    plain = a_sum(owes_relu=False).with_bias(np.asarray([2.0, 2.0]), "b")
    assert plain.bound.tolist() == [100.0, 10.0] and plain.bias.tolist() == [3.0, 1.0]


def test_the_lower_limit_of_a_pair_counts() -> None:
    x = PlannedTensor(name="x", tensor="x", scale=1.0, bound=127, zero=0, reach=127)
    pair = PlannedPair(kind="add", operators=("s",), operands=(x, x))
    limited = pair.limited(6.0, "r").limited(9.0, "t")
    assert (limited.relu, limited.ceiling, limited.operators) == (True, 6.0, ("s", "r", "t"))
