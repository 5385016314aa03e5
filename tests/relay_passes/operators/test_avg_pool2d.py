"""Average pool with windows of different sizes: found, read, computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.operators.avg_pool2d import OPERATOR
from relay_passes.operators.operator import Window
from tests.relay_passes.operators.anchors import anchored, followed, ones
from tests.relay_passes.partition.integers import Int8

FACTORS = np.int32([[9, 6, 9], [6, 4, 6], [9, 6, 9]])[np.newaxis, np.newaxis]


def module(weight: Any = None, factors: Any = FACTORS, **options: Any) -> Any:
    t = Int8((1, 4, 3, 3))
    weight = ones(4, 1, 3, 3) if weight is None else weight
    values = {"padding": 1, "groups": 4, "out_dtype": "int32"} | options
    sums = t.emit(relax.op.nn.conv2d(t.data, weight, **values))
    return t.module(t.small(t.emit(relax.op.multiply(sums, relax.const(factors)))))


def test_sums_by_hand() -> None:
    x = np.arange(9).reshape(1, 1, 3, 3)
    window = Window((3, 3), padding=(1, 1, 1, 1))
    shape = OPERATOR.out_shape(x.shape, window, None)
    total = OPERATOR.meaning(x, None, window, shape)
    assert shape == (1, 1, 3, 3)
    assert total[0, 0].tolist() == [
        [9 * (0 + 1 + 3 + 4), 6 * (0 + 1 + 2 + 3 + 4 + 5), 9 * (1 + 2 + 4 + 5)],
        [6 * (0 + 1 + 3 + 4 + 6 + 7), 4 * 36, 6 * (1 + 2 + 4 + 5 + 7 + 8)],
        [9 * (3 + 4 + 6 + 7), 6 * (3 + 4 + 5 + 6 + 7 + 8), 9 * (4 + 5 + 7 + 8)],
    ]


def test_sums_and_factors_are_one_layer() -> None:
    chain = followed(module())
    assert chain.kind == "avg_pool2d" and len(chain.bindings) == 5
    reading = OPERATOR.read(chain.anchor.value, (1, 4, 3, 3))
    assert reading == ("avg_pool2d", Window((3, 3), padding=(1, 1, 1, 1)), None)


@pytest.mark.parametrize(
    "mod",
    [
        module(weight=relax.const(np.full((4, 1, 3, 3), 2, np.int8))),
        module(factors=FACTORS + 1),
        module(factors=np.int32([[[[4]]]])),
        module(weight=ones(4, 2, 3, 3), groups=2),
        module(padding=2, dilation=2),
    ],
    ids=["twos", "other factors", "one factor", "groups", "dilation"],
)
def test_what_is_no_average(mod: Any) -> None:
    assert anchored(mod, OPERATOR) is None
