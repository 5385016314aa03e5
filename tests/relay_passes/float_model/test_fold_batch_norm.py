"""Folding BatchNorm and naming tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.float_model.fold_batch_norm import FoldBatchNorm, FoldConstants
from relay_passes.float_model.name_tensors import NameTensors
from relay_passes.graph import constant, op_name, read_graph, rewrite, static_shape
from relay_passes.host.run import HostModule
from relay_passes.operators.calls import split_bias
from relay_passes.quantize_model import prepare
from tests.relay_passes.models import CNN, images, residual_net


def operators(mod: Any) -> list[str]:
    return [op_name(b.value) for b in read_graph(mod).bindings]


def same(before: Any, after: Any, **shape: Any) -> None:
    x = images(1, **shape)[0]
    for a, b in zip(HostModule(before)(x), HostModule(after)(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_conv_bn_becomes_one_convolution_and_a_bias(bias: bool) -> None:
    net = CNN()
    mod = net.module(net.batch_norm(net.conv(net.data, 8, bias=bias)))
    folded = FoldBatchNorm()(mod)
    assert operators(folded) == ["nn.conv2d", "add"]
    assert constant(read_graph(folded).bindings[1].value.args[1]).shape == (1, 8, 1, 1)
    same(mod, folded)


@pytest.mark.parametrize("bias", [False, True])
def test_dense_bn_becomes_one_dense_layer_and_a_bias(bias: bool) -> None:
    net = CNN()
    x = net.emit(relax.op.reshape(net.data, (1, 3 * 12 * 12)))
    x = net.emit(relax.op.matmul(x, net.const(3 * 12 * 12, 8)))
    x = net.emit(relax.op.add(x, net.const(8))) if bias else x
    mod = net.module(net.batch_norm(x))
    folded = FoldBatchNorm()(mod)
    assert operators(folded) == ["reshape", "matmul", "add"]
    same(mod, folded)


def test_lone_batch_norm_of_a_row_keeps_its_shape() -> None:
    net = CNN()
    x = net.relu(net.emit(relax.op.reshape(net.data, (1, 3 * 12 * 12))))
    mod = net.module(net.batch_norm(x))
    folded = FoldBatchNorm()(mod)
    assert static_shape(folded["main"].body.body) == (1, 3 * 12 * 12)
    same(mod, folded)


def test_shared_convolution_is_not_folded() -> None:
    net = CNN()
    y = net.conv(net.data, 4, bias=False)
    mod = net.module(net.batch_norm(y), net.relu(y))
    folded = FoldBatchNorm()(mod)
    assert operators(folded) == ["nn.conv2d", "multiply", "add", "nn.relu"]
    same(mod, folded)


def test_shared_bias_add_is_not_folded() -> None:
    net = CNN()
    y = net.conv(net.data, 4)
    mod = net.module(net.batch_norm(y), net.relu(y))
    same(mod, FoldBatchNorm()(mod))


def test_lone_batch_norm_becomes_multiply_and_add() -> None:
    net = CNN()
    mod = net.module(net.batch_norm(net.relu(net.data)))
    folded = FoldBatchNorm()(mod)
    assert operators(folded) == ["nn.relu", "multiply", "add"]
    same(mod, folded)


def test_computed_weight_is_not_folded() -> None:
    net = CNN()
    weight = net.emit(relax.op.multiply(net.const(4, 3, 3, 3), net.const(1)))
    y = net.emit(relax.op.nn.conv2d(net.data, weight))
    mod = net.module(net.batch_norm(y))
    same(mod, FoldBatchNorm()(mod))


def test_whole_network_keeps_its_function() -> None:
    mod = residual_net()
    folded = prepare(mod)
    assert "nn.batch_norm" not in operators(folded)
    same(mod, folded)


def test_training_mode_stays() -> None:
    net = CNN()
    mod = net.module(net.batch_norm(net.conv(net.data, 4), training=True))
    assert operators(FoldBatchNorm()(mod)) == ["nn.conv2d", "add", "nn.batch_norm", ""]


def test_constants_are_computed() -> None:
    net = CNN()
    bias = net.emit(relax.op.reshape(net.const(5), (1, 5, 1, 1)))
    y = net.emit(relax.op.nn.conv2d(net.data, net.const(5, 3, 1, 1)))
    y = net.emit(relax.op.add(y, bias))
    y = net.emit(relax.op.mean(y, axis=[2, 3]))
    weight = net.emit(relax.op.permute_dims(net.const(4, 5), [1, 0]))
    mod = net.module(net.emit(relax.op.matmul(y, weight)))
    folded = FoldConstants()(mod)
    assert operators(folded) == ["nn.conv2d", "add", "mean", "matmul"]
    same(mod, folded)


def test_split_bias() -> None:
    x = relax.Var("x", relax.TensorType((1, 3, 4, 4), "float32"))
    full, ones = np.ones((1, 3, 4, 4), np.float32), np.ones((1, 3, 1, 1), np.float32)
    for value in (ones, ones[0], np.float32(1)):
        found = split_bias(relax.op.add(relax.const(value), x))
        assert found is not None
        assert found[0].same_as(x) and found[1].tolist() == [1, 1, 1]
    assert split_bias(relax.op.add(x, relax.const(full))) is None
    assert split_bias(relax.op.add(x, x)) is None
    assert static_shape(x) == (1, 3, 4, 4)


def test_names() -> None:
    names = [b.var.name for b in read_graph(prepare(residual_net())).bindings]
    assert len(set(names)) == len(names)
    assert names[:4] == ["conv0.acc", "conv0", "conv0.relu", "maxpool0"]
    assert {"conv2.add", "conv2.add.relu", "avgpool0", "avgpool0.flat", "dense0"} <= set(names)


def test_given_names_are_kept_and_made_unique() -> None:
    net = CNN()
    mod = net.module(net.relu(net.conv(net.conv(net.data, 4), 4)))
    given = rewrite(
        mod,
        lambda builder, var, value: (
            builder.emit(value, "body.conv") if op_name(value) == "nn.conv2d" else value
        ),
    )
    names = [b.var.name for b in read_graph(NameTensors()(given)).bindings]
    assert names == [
        "body.conv.acc",
        "body.conv",
        "body.conv_2.acc",
        "body.conv_2",
        "body.conv_2.relu",
    ]
