"""The interpreter: what `HostModule` computes, the integers bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.calibration.profiling import profile
from relay_passes.host.interpret import Interpreter, fast_run
from relay_passes.host.run import HostModule
from relay_passes.quantize_model import prepare, quantize_model
from relay_passes.variants import RECIPES
from tests.relay_passes.models import CNN, images, joined_net, residual_net


@pytest.mark.parametrize("make", [residual_net, joined_net])
@pytest.mark.parametrize("recipe", ["profiled", "ordered_channels"])
def test_integers_are_the_same(make: Any, recipe: str) -> None:
    mod = prepare(make())
    data = images(3)
    integers = quantize_model(mod, profile(mod, data[:2]), RECIPES[recipe].options)
    for part in (integers, mod):
        run, plain = Interpreter(part), HostModule(part, fast=True)
        for found, expected in zip(run(data[2]), plain(data[2]), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
            assert found.dtype == expected.dtype and found.shape == expected.shape


def _operators(net: CNN) -> list[Any]:
    op, emit, x = relax.op, net.emit, net.data
    whole = emit(op.astype(emit(op.clip(emit(op.multiply(x, op_const(9.0))), -127, 127)), "int8"))
    wide = emit(op.astype(whole, "int32"))
    pooled = [
        emit(op.nn.max_pool2d(x, (3, 2), (2, 2), padding=(1, 0, 1, 0))),
        emit(op.nn.max_pool2d(whole, (2, 2), (3, 3), ceil_mode=True)),
        emit(op.mean(x, axis=[2, 3], keepdims=True)),
        emit(op.sum(wide, axis=[2, 3])),
    ]
    return [
        *pooled,
        emit(op.left_shift(wide, relax.const(np.int32(3)))),
        emit(op.right_shift(wide, relax.const(np.int32(2)))),
        emit(op.nn.softmax(x, axis=1)),
        emit(op.nn.log_softmax(x, axis=-1)),
        emit(op.sigmoid(x)),
        emit(op.nn.leakyrelu(x, 0.1)),
        emit(op.nn.pad(x, (0, 0, 0, 0, 1, 2, 3, 0), pad_value=2.0)),
        emit(op.strided_slice(x, [1, 3], [0, 1], [2, 9], [1, 2])),
        emit(op.take(x, relax.const(np.asarray([2, 0, 1])), axis=1)),
        emit(op.permute_dims(x)),
        emit(op.concat([x, emit(op.permute_dims(x, (0, 1, 3, 2)))], axis=1)),
        net.conv(x, 6, groups=3, strides=(2, 1), padding=(1, 0, 2, 1), dilation=(1, 2)),
        emit(op.nn.relu(x)),
        emit(op.subtract(x, emit(op.floor(x)))),
        emit(op.divide(x, emit(op.maximum(x, op_const(0.5))))),
    ]


def op_const(value: float) -> Any:
    return relax.const(np.float32(value))


def test_operators_one_by_one() -> None:
    net = CNN()
    mod = net.module(*_operators(net))
    for x in images(2):
        found, expected = Interpreter(mod)(x), HostModule(mod, fast=True)(x)
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=str(i))
            assert a.dtype == b.dtype and a.shape == b.shape


def test_what_it_does_not_know_is_compiled() -> None:
    net = CNN()
    y = net.emit(relax.op.nn.avg_pool2d(net.data, (2, 2), (2, 2)))
    z = net.emit(relax.op.nn.pad(y, (0, 0, 0, 0, 1, 1, 1, 1), pad_mode="reflect"))
    for result in (y, z):
        mod = net.module(result)
        with pytest.raises(KeyError):
            Interpreter(mod)
        (x,) = images(1)
        assert isinstance(fast_run(mod), HostModule)
        assert fast_run(mod)(x)[0].shape == tuple(int(v) for v in result.ty.shape.values)
