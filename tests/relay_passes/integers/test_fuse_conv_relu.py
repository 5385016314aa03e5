"""`FuseConvRelu` removes the pair between a layer and the ReLU, or the sum, that alone reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.graph import op_name, read_graph
from relay_passes.integers.fuse_conv_relu import FuseConvRelu
from relay_passes.integers.make_plan import make_plan
from relay_passes.integers.quantize import Quantize
from relay_passes.params import QuantParams
from relay_passes.quantize_model import prepare
from relay_passes.scales.scales import Scales
from tests.relay_passes.expected import assert_becomes, assert_same
from tests.relay_passes.integers.stages import Fused, Integers, Pairs
from tests.relay_passes.models import CNN


def test_the_pair_between_a_convolution_and_its_relu_goes() -> None:
    assert_becomes(FuseConvRelu(), Pairs, Fused)


def test_nothing_is_left_to_fuse() -> None:
    assert_same(FuseConvRelu()(Fused), Fused)
    assert_same(FuseConvRelu()(Integers), Integers)


def pairs(mod: Any) -> Any:
    """Return a float module with a pair at every tensor and weight, all scales 1."""
    mod = prepare(mod)
    one = QuantParams(scale=(1.0,))
    names = [
        *(p.name for p in read_graph(mod).params),
        *(b.var.name for b in read_graph(mod).bindings),
    ]
    weights = {
        b.var.name: one
        for b in read_graph(mod).bindings
        if op_name(b.value) in ("nn.conv2d", "matmul")
    }
    return Quantize(
        plan=make_plan(mod, Scales(tensors=dict.fromkeys(names, one), weights=weights))
    )(mod)


def quantized(mod: Any) -> list[str]:
    """Return the names of the tensors that are quantized."""
    return [
        b.value.args[0].name for b in read_graph(mod).bindings if op_name(b.value) == "quantize"
    ]


def residual(*, both: bool = False) -> Any:
    """Return relu(conv1(x) + x) with x = relu(conv0(data)); `both`: + conv2(x)."""
    net = CNN((1, 2, 4, 4))
    x = net.relu(net.conv(net.data, 2))
    y = net.conv(x, 2)
    y = net.relu(net.add(y, net.conv(x, 2) if both else x))
    return net.module(net.conv(y, 2))


def test_one_operand_of_a_sum_stays_an_accumulator() -> None:
    before = pairs(residual())
    assert quantized(before) == [
        "data",
        "conv0",
        "conv0.relu",
        "conv1",
        "conv1.add",
        "conv1.add.relu",
    ]
    assert quantized(FuseConvRelu()(before)) == ["data", "conv0.relu", "conv1.add.relu"]
    without = FuseConvRelu(residual=False)(before)
    assert quantized(without) == ["data", "conv0.relu", "conv1", "conv1.add.relu"]


def test_the_first_of_two_layers_that_a_sum_adds() -> None:
    assert quantized(FuseConvRelu()(pairs(residual(both=True)))) == [
        "data", "conv0.relu", "conv2", "conv1.add.relu",
    ]  # fmt: skip


def test_clips_and_dense_layers() -> None:
    net = CNN((1, 4))
    x = net.emit(relax.op.matmul(net.data, net.const(4, 3)))
    x = net.emit(relax.op.clip(x, 0.0, 6.0))
    before = pairs(net.module(net.emit(relax.op.matmul(x, net.const(3, 2)))))
    assert quantized(before) == ["data", "dense0", "dense0.clip"]
    assert quantized(FuseConvRelu()(before)) == ["data", "dense0.clip"]


def test_a_clip_with_other_limits_keeps_its_pair() -> None:
    """It is a function of an int8 tensor."""
    net = CNN((1, 4))
    x = net.emit(relax.op.matmul(net.data, net.const(4, 3)))
    clipped = net.emit(relax.op.clip(x, -1.0, 1.0))
    y = net.emit(relax.op.matmul(clipped, net.const(3, 2)))
    before = pairs(net.module(net.emit(relax.op.clip(y, -2.0, 2.0))))
    expected = ["data", "dense0", "dense0.clip"]
    assert quantized(before) == quantized(FuseConvRelu()(before)) == expected


@pytest.mark.parametrize("reader", ["a second operator", "the caller"])
def test_what_is_read_twice_keeps_its_pair(reader: str) -> None:
    net = CNN((1, 2, 4, 4))
    x = net.conv(net.data, 2)
    results = [net.conv(net.relu(x), 2)]
    results.append(net.conv(x, 2) if reader == "a second operator" else x)
    before = pairs(net.module(*results))
    assert quantized(FuseConvRelu()(before)) == quantized(before) == ["data", "conv0", "conv0.relu"]


def test_a_relu_of_a_pool_keeps_its_pair() -> None:
    net = CNN((1, 2, 4, 4))
    x = net.emit(relax.op.mean(net.data, axis=[2, 3], keepdims=True))
    before = pairs(net.module(net.conv(net.relu(x), 2, 1)))
    assert (
        quantized(FuseConvRelu()(before))
        == quantized(before)
        == ["data", "avgpool0", "avgpool0.relu"]
    )


def test_constants_stay() -> None:
    before = pairs(residual())
    values = {b.var.name: b.value for b in read_graph(before).bindings}
    after = {b.var.name: b.value for b in read_graph(FuseConvRelu()(before)).bindings}
    for name in ("conv0.acc.weight", "conv1.acc.weight", "conv2.acc.weight"):
        np.testing.assert_array_equal(
            values[name].args[0].value.numpy(), after[name].args[0].value.numpy()
        )
