"""Grouped convolution: every group has channels of its own, in and out."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from relay_passes.operators.grouped_conv2d import OPERATOR, is_grouped
from relay_passes.operators.operator import Window
from tests.relay_passes.operators.anchors import anchored, ones
from tests.relay_passes.partition.integers import Int8, check_meaning
from vta_config import VTAConfig


def test_groups_by_hand() -> None:
    x = np.asarray([1, 2, 3, 4]).reshape(1, 4, 1, 1)
    weight = np.int8([[1, 10], [0, 1], [1, 1], [-1, 2], [5, 0], [0, 7]])[..., None, None]
    shape = OPERATOR.out_shape(x.shape, Window(), weight.shape)
    assert shape == (1, 6, 1, 1)
    values = OPERATOR.meaning(x, weight, Window(), shape)
    assert values.ravel().tolist() == [21, 2, 3, 5, 15, 28]


@pytest.mark.parametrize(
    ("out", "groups", "expected"), [(4, 4, False), (8, 4, True), (4, 2, True), (4, 1, False)]
)
def test_several_groups_that_are_no_single_channels(out: int, groups: int, expected: bool) -> None:
    t = Int8()
    weight = ones(out, 4 // groups, 3, 3)
    call = relax.op.nn.conv2d(t.data, weight, padding=1, groups=groups, out_dtype="int32")
    mod = t.module(t.emit(call))
    assert is_grouped(call) is expected
    assert (anchored(mod, OPERATOR) is not None) is expected
    assert OPERATOR.integer is not None and OPERATOR.integer.fits(call) is expected


def test_window_and_weight_are_read() -> None:
    t = Int8()
    call = relax.op.nn.conv2d(t.data, ones(6, 2, 3, 2), (2, 1), (1, 0, 1, 0), groups=2)
    kind, window, weight = OPERATOR.read(call, (1, 4, 6, 6))
    assert (kind, window) == ("grouped_conv2d", Window((3, 2), (2, 1), (1, 1), (1, 0, 1, 0)))
    assert weight is not None and weight.shape == (6, 2, 3, 2)


def test_relax_computes_the_same(default_config: VTAConfig) -> None:
    t = Int8((1, 12, 6, 5))
    mod = t.module(t.small(t.conv(t.data, 18, groups=3)))
    (layer,) = check_meaning(mod, default_config)
    assert layer.kind == "grouped_conv2d"
