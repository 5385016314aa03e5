"""Integer convolutions in float32 units: the integers of the plain convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.host.convolutions import EXACT_PRODUCTS
from relay_passes.host.kernels import KernelCache
from relay_passes.host.run import conv2d, host_target
from tests.relay_passes.models import CNN


def convolved(x: Any, weight: Any, *, known: bool = True, **attributes: Any) -> Any:
    """Return the int32 convolution of int8 arrays, with constant weights or others."""
    net = CNN(x.shape)
    net.data = relax.Var("data", relax.TensorType(x.shape, "int8"))
    kernel = relax.const(weight)
    if not known:
        kernel = net.emit(relax.op.add(relax.const(weight), relax.const(np.int8(0))))
    mod = net.module(
        net.emit(relax.op.nn.conv2d(net.data, kernel, out_dtype="int32", **attributes))
    )
    executable = KernelCache().build(mod, floats=tvm.target.Target("llvm"), integers=host_target())
    return relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x)).numpy()


def expected(x: Any, weight: Any, **attributes: Any) -> Any:
    return conv2d(x, weight, float_type=np.float64, **attributes).astype(np.int32)


def int8(*shape: int) -> Any:
    return np.random.default_rng(shape).integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize(
    ("x", "weight", "attributes"),
    [
        ((1, 3, 11, 14), (64, 3, 7, 7), {"strides": (2, 2), "padding": (3, 3, 3, 3)}),
        ((2, 96, 5, 9), (24, 96, 3, 3), {"strides": (1, 2), "padding": (0, 2, 1, 0)}),
        ((1, 37, 8, 8), (41, 37, 1, 1), {"padding": (0, 0, 0, 0)}),
        ((1, 4, 9, 9), (1, 4, 2, 3), {"dilation": (2, 3), "padding": (1, 1, 1, 1)}),
        ((1, 130, 1, 1), (10, 130, 1, 1), {}),
    ],
)
def test_integers_are_those_of_the_definition(
    x: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    data, kernel = int8(*x), int8(*weight)
    names = {"strides": "stride"}
    own = {names.get(name, name): value for name, value in attributes.items()}
    np.testing.assert_array_equal(
        convolved(data, kernel, **attributes), expected(data, kernel, **own)
    )


def test_sums_above_what_float32_counts_to_are_exact() -> None:
    x, weight = np.full((1, 512, 3, 3), -128, np.int8), np.full((2, 512, 3, 3), -128, np.int8)
    x[0, 0, 0, 0] = weight[1, 0, 0, 0] = -127  # an odd product
    assert 9 * 512 > EXACT_PRODUCTS
    np.testing.assert_array_equal(convolved(x, weight), expected(x, weight))


@pytest.mark.parametrize("known", [True, False])
def test_others_run_as_tvm_has_them(known: bool) -> None:
    """A kernel of more products than may be summed, and weights that are computed."""
    size = 33 if known else 3
    x, weight = int8(1, 2, 34, 34), int8(3, 2, size, size)
    np.testing.assert_array_equal(convolved(x, weight, known=known), expected(x, weight))


def test_groups_run_as_tvm_has_them() -> None:
    x, weight = int8(1, 8, 5, 5), int8(8, 2, 3, 3)
    np.testing.assert_array_equal(convolved(x, weight, groups=4), expected(x, weight, groups=4))
