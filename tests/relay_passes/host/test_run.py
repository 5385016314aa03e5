"""The fast host kernels give the reference's integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from relay_passes.graph import op_name, read_graph
from relay_passes.host.run import HostModule, UseHostKernels, conv2d
from tests.relay_passes.models import CNN


def int8_conv(weight: Any, shape: tuple[int, ...], **attrs: Any) -> Any:
    net = CNN(shape)
    net.data = relax.Var("data", relax.TensorType(shape, "int8"))
    call = relax.op.nn.conv2d(net.data, relax.const(weight), out_dtype="int32", **attrs)
    return net.module(net.emit(call))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("channels", [4, 512])
def test_int8_convolution_is_exact(groups: int, channels: int) -> None:
    rng = np.random.default_rng(0)
    shape = (1, channels, 7, 5)
    weight = rng.choice(np.asarray([-127, 127], np.int8), (6, channels // groups, 3, 2))
    attrs = {"strides": (2, 1), "padding": (1, 0, 2, 1), "dilation": (1, 2), "groups": groups}
    mod = int8_conv(weight, shape, **attrs)
    x = rng.choice(np.asarray([-128, 127], np.int8), shape)
    plain, fast = HostModule(mod)(x)[0], HostModule(mod, fast=True)(x)[0]
    assert plain.dtype == fast.dtype == np.int32
    np.testing.assert_array_equal(plain, fast)


def test_every_convolution_is_replaced() -> None:
    mod = UseHostKernels()(int8_conv(np.ones((1, 2, 1, 1), np.int8), (1, 2, 3, 3)))
    assert [op_name(b.value) for b in read_graph(mod).bindings] == ["call_dps_packed"]


def test_other_layouts_and_types_stay() -> None:
    net = CNN((1, 3, 3, 2))
    weight = net.const(1, 2, 1, 1)
    mod = net.module(net.emit(relax.op.nn.conv2d(net.data, weight, data_layout="NHWC")))
    tvm.ir.assert_structural_equal(UseHostKernels()(mod), mod)
    net = CNN()
    net.data = relax.Var("data", relax.TensorType((1, 2, 3, 3), "float64"))
    call = relax.op.nn.conv2d(net.data, relax.const(np.ones((1, 2, 1, 1)), "float64"))
    mod = net.module(net.emit(call))
    tvm.ir.assert_structural_equal(UseHostKernels()(mod), mod)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.tuples(*[st.integers(0, 2)] * 4))
def test_conv2d_by_definition(
    kernel: int, stride: int, dilation: int, padding: tuple[int, int, int, int]
) -> None:
    rng = np.random.default_rng(kernel)
    x = rng.integers(-9, 9, (2, 2, 7, 6)).astype(np.float64)
    w = rng.integers(-9, 9, (3, 2, kernel, kernel)).astype(np.float64)
    y = conv2d(
        x,
        w,
        stride=(stride, stride),
        padding=padding,
        dilation=(dilation, dilation),
        float_type=np.float64,
    )
    top, left, bottom, right = padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    span = dilation * (kernel - 1) + 1
    for i, j in np.ndindex(y.shape[2:]):
        window = padded[:, :, i * stride :, j * stride :][:, :, :span:dilation, :span:dilation]
        np.testing.assert_array_equal(y[:, :, i, j], np.einsum("nchw,ochw->no", window, w))


def test_several_results_and_input_shapes() -> None:
    net = CNN()
    run = HostModule(net.module(net.relu(net.data), net.data))
    x = np.full((1, 3, 12, 12), -1, np.float32)
    first, second = run(x)
    assert first.max() == 0 and second.max() == -1
    assert run.input_shapes == [(1, 3, 12, 12)]


@pytest.mark.parametrize("fast", [False, True])
def test_arguments_are_checked_though_kernels_do_not(fast: bool) -> None:
    run = HostModule(int8_conv(np.ones((1, 2, 1, 1), np.int8), (1, 2, 3, 3)), fast=fast)
    assert run(np.ones((1, 2, 3, 3), np.int8))[0].tolist() == [[[[2] * 3] * 3]]
    for wrong in (np.ones((1, 2, 3, 4), np.int8), np.ones((1, 2, 3, 3), np.float32)):
        with pytest.raises((ValueError, TypeError, RuntimeError), match="main"):
            run(wrong)
