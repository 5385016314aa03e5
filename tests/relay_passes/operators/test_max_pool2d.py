"""Max-pool: padding is less than every value."""

from __future__ import annotations

import numpy as np
from tvm import relax

from relay_passes.operators.max_pool2d import OPERATOR
from relay_passes.operators.operator import Window
from tests.relay_passes.operators.anchors import anchored
from tests.relay_passes.partition.integers import Int8


def test_maxima_by_hand() -> None:
    x = np.asarray([[-5, -7, 3], [-9, -6, 2], [-128, -128, 1]]).reshape(1, 1, 3, 3)
    window = Window((2, 2), (2, 2), padding=(1, 1, 0, 0))
    shape = OPERATOR.out_shape(x.shape, window, None)
    assert shape == (1, 1, 2, 2)
    assert OPERATOR.meaning(x, None, window, shape).reshape(-1).tolist() == [-5, 3, -9, 2]


def test_a_pool_of_int8_starts_a_layer() -> None:
    t = Int8()
    mod = t.module(t.emit(relax.op.nn.max_pool2d(t.data, (3, 2), (2, 1), (1, 0, 0, 1))))
    chain = anchored(mod, OPERATOR)
    assert chain is not None and (chain.kind, chain.source) == ("max_pool2d", t.data)
    kind, window, weight = OPERATOR.read(chain.anchor.value, (1, 4, 6, 6))
    assert (kind, weight) == ("max_pool2d", None)
    assert window == Window((3, 2), (2, 1), (1, 1), (1, 0, 0, 1))


def test_a_pool_of_int32_starts_none() -> None:
    t = Int8()
    mod = t.module(t.emit(relax.op.nn.max_pool2d(t.wide(t.data), (2, 2))))
    assert anchored(mod, OPERATOR) is None
