"""Addition starts empty: every operand is a residual."""

from __future__ import annotations

import numpy as np
from tvm import relax

from relay_passes.operators.add import OPERATOR
from relay_passes.operators.operator import Window
from tests.relay_passes.operators.anchors import anchored
from tests.relay_passes.partition.integers import Int8


def test_an_int8_tensor_made_int32_is_the_first_operand() -> None:
    t = Int8()
    chain = anchored(t.module(t.wide(t.data)), OPERATOR)
    assert chain is not None and chain.source is None and chain.inputs == (t.data,)
    assert chain.post_ops == [("add_tensor", 0, t.data)]


def test_a_cast_to_int8_starts_none() -> None:
    t = Int8()
    y = t.emit(relax.op.astype(t.conv(t.data), "int8"))
    assert anchored(t.module(y), OPERATOR) is None


def test_the_accumulator_is_zero() -> None:
    x = np.full((1, 2, 2, 2), 7)
    assert OPERATOR.read(None, x.shape)[:2] == ("add", Window())
    shape = OPERATOR.out_shape(x.shape, Window(), None)
    assert shape == x.shape and not OPERATOR.meaning(x, None, Window(), shape).any()
