"""Depthwise convolution: every channel has a kernel of its own."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from relay_passes.operators.depthwise_conv2d import OPERATOR, is_depthwise
from relay_passes.operators.operator import Window
from tests.relay_passes.operators.anchors import anchored, ones
from tests.relay_passes.partition.integers import Int8


def test_channels_by_hand() -> None:
    x = np.asarray([1, 2, 3, 4, 5, 6]).reshape(1, 2, 1, 3)
    weight = np.int8([[[[1, 10]]], [[[-1, 100]]]])
    window = Window((1, 2))
    shape = OPERATOR.out_shape(x.shape, window, weight.shape)
    assert shape == (1, 2, 1, 2)
    values = OPERATOR.meaning(x, weight, window, shape)
    assert values.reshape(2, 2).tolist() == [[21, 32], [496, 595]]


@pytest.mark.parametrize(
    ("out", "groups", "expected"), [(4, 4, True), (8, 4, False), (4, 2, False), (4, 1, False)]
)
def test_one_group_for_each_channel_in_and_out(out: int, groups: int, expected: bool) -> None:
    t = Int8()
    weight = ones(out, 4 // groups, 3, 3)
    call = relax.op.nn.conv2d(t.data, weight, padding=1, groups=groups, out_dtype="int32")
    mod = t.module(t.emit(call))
    assert is_depthwise(call) is expected
    assert (anchored(mod, OPERATOR) is not None) is expected
    assert OPERATOR.integer is not None and OPERATOR.integer.fits(call) is expected


def test_one_channel_is_an_ordinary_convolution() -> None:
    t = Int8((1, 1, 6, 6))
    assert not is_depthwise(relax.op.nn.conv2d(t.data, ones(1, 1, 3, 3), groups=1))


def test_window_and_weight_are_read() -> None:
    t = Int8()
    call = relax.op.nn.conv2d(t.data, ones(4, 1, 3, 2), (2, 1), (1, 0, 1, 0), groups=4)
    kind, window, weight = OPERATOR.read(call, (1, 4, 6, 6))
    assert (kind, window) == ("depthwise_conv2d", Window((3, 2), (2, 1), (1, 1), (1, 0, 1, 0)))
    assert weight is not None and weight.shape == (4, 1, 3, 2)
