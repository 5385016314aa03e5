"""Convolution: where it starts, what it reads, what it computes."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from relay_passes.graph import constant
from relay_passes.operators.conv2d import OPERATOR
from relay_passes.operators.operator import Window
from tests.relay_passes.operators.anchors import anchored, ones
from tests.relay_passes.partition.integers import Int8

PICTURE = np.arange(9).reshape(1, 1, 3, 3)
KERNEL = np.int8([[[[1, 2], [3, 4]]]])


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window((2, 2)), [27, 37, 57, 67]),  # 0*1 + 1*2 + 3*3 + 4*4 = 27
        (Window((2, 2), dilation=(2, 2)), [54]),  # 0*1 + 2*2 + 6*3 + 8*4
        (Window((2, 2), (3, 2), padding=(1, 0, 0, 0)), [4]),  # 0*3 + 1*4 below the padding
        (Window((2, 2), (2, 2), padding=(0, 0, 1, 1)), [27, 2 + 5 * 3, 6 + 7 * 2, 8]),
        # -5 stands outside: -5*1 + -5*2 + 0*3 + 1*4
        (Window((2, 2), (3, 2), padding=(1, 0, 0, 0), pad_value=-5), [-11]),
    ],
)
def test_sums_by_hand(window: Window, expected: list[int]) -> None:
    shape = OPERATOR.out_shape(PICTURE.shape, window, KERNEL.shape)
    assert shape == (1, 1, *window.extent(PICTURE.shape))
    assert OPERATOR.meaning(PICTURE, KERNEL, window, shape).reshape(-1).tolist() == expected


def test_every_output_channel_reads_every_input_channel() -> None:
    x = np.asarray([3, 5]).reshape(1, 2, 1, 1)
    weight = np.int8([[1, 10], [100, -1], [0, -128]]).reshape(3, 2, 1, 1)
    shape = OPERATOR.out_shape(x.shape, Window(), weight.shape)
    assert shape == (1, 3, 1, 1)
    assert OPERATOR.meaning(x, weight, Window(), shape).reshape(-1).tolist() == [53, 295, -640]


def test_a_convolution_of_int8_starts_a_layer() -> None:
    t = Int8()
    call = relax.op.nn.conv2d(t.data, ones(3, 4, 2, 1), 2, (1, 0, 0, 1), out_dtype="int32")
    mod = t.module(t.emit(call))
    chain = anchored(mod, OPERATOR)
    assert chain is not None and (chain.kind, chain.source) == ("conv2d", t.data)
    kind, window, weight = OPERATOR.read(chain.anchor.value, (1, 4, 6, 6))
    assert (kind, window) == ("conv2d", Window((2, 1), (2, 2), (1, 1), (1, 0, 0, 1)))
    assert weight is not None and weight.shape == (3, 4, 2, 1)


def test_floats_start_none() -> None:
    t = Int8()
    x = t.emit(relax.op.astype(t.data, "float32"))
    kernel = relax.const(np.ones((3, 4, 1, 1), np.float32))
    assert anchored(t.module(t.emit(relax.op.nn.conv2d(x, kernel))), OPERATOR) is None


def test_the_integer_form_keeps_window_and_groups() -> None:
    x = relax.Var("x", relax.TensorType((1, 4, 6, 6), "float32"))
    w = relax.const(np.ones((4, 2, 1, 1), np.float32))
    call = relax.op.nn.conv2d(x, w, 2, (1, 2, 3, 4), (1, 2), groups=2)
    assert OPERATOR.integer is not None and OPERATOR.integer.fits(call)
    assert OPERATOR.integer.padding(call) == (1, 2, 3, 4)
    data = relax.Var("q", relax.TensorType((1, 4, 6, 6), "int8"))
    made = OPERATOR.integer.make(call, data, np.full((4, 2, 1, 1), 7, np.int8), (1, 2, 3, 4))
    attrs = made.attrs
    assert made.args[0].same_as(data) and (constant(made.args[1]) == 7).all()
    assert (list(attrs.strides), list(attrs.padding)) == ([2, 2], [1, 2, 3, 4])
    assert (list(attrs.dilation), int(attrs.groups)) == ([1, 2], 2)
    assert str(attrs.out_dtype) == "int32"


def test_other_layouts_have_no_integer_form() -> None:
    x = relax.Var("x", relax.TensorType((1, 6, 6, 4), "float32"))
    w = relax.const(np.ones((1, 1, 4, 4), np.float32))
    call = relax.op.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO")
    assert OPERATOR.integer is not None and not OPERATOR.integer.fits(call)
