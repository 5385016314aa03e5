"""Sum over the picture."""

from __future__ import annotations

import numpy as np
from tvm import relax

from relay_passes.operators.operator import Window
from relay_passes.operators.sum_pool2d import OPERATOR
from tests.relay_passes.operators.anchors import anchored
from tests.relay_passes.partition.integers import Int8


def test_sums_by_hand() -> None:
    x = np.asarray([1, 2, 3, 4, -128, -128, -128, -128]).reshape(1, 2, 2, 2)
    window = OPERATOR.read(None, x.shape).window
    assert window == Window((2, 2))
    shape = OPERATOR.out_shape(x.shape, window, None)
    assert shape == (1, 2, 1, 1)
    assert OPERATOR.meaning(x, None, window, shape).reshape(-1).tolist() == [10, -512]


def test_a_sum_takes_in_the_cast_before_it() -> None:
    t = Int8()
    mod = t.module(t.emit(relax.op.sum(t.wide(t.data), axis=[2, 3], keepdims=True)))
    chain = anchored(mod, OPERATOR)
    assert chain is not None and chain.source.same_as(t.data) and len(chain.bindings) == 2


def test_a_cast_that_others_read_is_not_taken_in() -> None:
    t = Int8()
    wide = t.wide(t.data)
    mod = t.module(t.emit(relax.op.sum(wide, axis=[2, 3], keepdims=True)), wide)
    assert anchored(mod, OPERATOR) is None


def test_a_sum_of_floats_starts_none() -> None:
    t = Int8()
    x = t.emit(relax.op.astype(t.data, "float32"))
    assert anchored(t.module(t.emit(relax.op.sum(x, axis=[2, 3], keepdims=True))), OPERATOR) is None
