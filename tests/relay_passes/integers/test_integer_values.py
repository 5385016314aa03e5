"""What an accumulator owes before something else can be added to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm import relax

from relay_passes.integers.integer_values import Accumulator


def test_a_relu_is_owed_and_so_is_its_ceiling() -> None:
    var = relax.Var("acc", relax.TensorType((1, 2, 4, 4), "int32"))
    one = np.ones(2)
    acc = Accumulator(
        var=var,
        scale=one,
        bound=np.int64([9, 9]),
        offset=np.zeros(2, np.int64),
        bias=one,
        name="acc",
    )
    assert not acc.owes_relu
    assert replace(acc, relu=True).owes_relu
    assert replace(acc, ceiling=6.0).owes_relu
