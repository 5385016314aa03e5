"""BatchNorm folded into layers, and constants computed; the network means the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.float_model.fold_batch_norm import FoldBatchNorm, FoldConstants
from relay_passes.graph import constant, op_name, read_graph, static_shape
from relay_passes.host.run import HostModule
from relay_passes.quantize_model import prepare
from tests.relay_passes.expected import assert_becomes
from tests.relay_passes.models import CNN, images, residual_net

# ---- before and after --------------------------------------------------------------------------
#: f = gamma / sqrt(variance + epsilon) = [2/2, 3/1]; offset = beta - mean * f = [4, -4].
GAMMA, BETA = np.float32([2, 3]), np.float32([5, 2])
MEAN, VARIANCE = np.float32([1, 2]), np.float32([3.75, 0.75])
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)
BIAS = np.float32([10, 20]).reshape(1, 2, 1, 1)


@I.ir_module
class ConvBatchNorm:
    @R.function
    def main(data: R.Tensor((1, 3, 4, 4), "float32")):
        with R.dataflow():
            conv = R.nn.conv2d(data, R.const(WEIGHT), strides=2)
            bn = R.nn.batch_norm(
                conv,
                R.const(GAMMA),
                R.const(BETA),
                R.const(MEAN),
                R.const(VARIANCE),
                axis=1,
                epsilon=0.25,
                training=False,
            )
            y = bn[0]
            R.output(y)
        return y


def test_convolution_and_batch_norm() -> None:
    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 3, 4, 4), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(
                    data,
                    R.const(np.float32([0, 1, 2, 9, 12, 15]).reshape(2, 3, 1, 1)),  # w * f
                    strides=2,
                )
                conv = R.add(conv, R.const(np.float32([4, -4]).reshape(1, 2, 1, 1)))
                R.output(conv)
            return conv

    assert_becomes(FoldBatchNorm(), ConvBatchNorm, After)


def test_convolution_bias_and_batch_norm() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 3, 4, 4), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(data, R.const(WEIGHT))
                biased = R.add(conv, R.const(BIAS))
                bn = R.nn.batch_norm(
                    biased,
                    R.const(GAMMA),
                    R.const(BETA),
                    R.const(MEAN),
                    R.const(VARIANCE),
                    axis=1,
                    epsilon=0.25,
                    training=False,
                )
                y = bn[0]
                R.output(y)
            return y

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 3, 4, 4), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(
                    data, R.const(np.float32([0, 1, 2, 9, 12, 15]).reshape(2, 3, 1, 1))
                )
                # b * f + offset = [10 * 1 + 4, 20 * 3 - 4]
                conv = R.add(conv, R.const(np.float32([14, 56]).reshape(1, 2, 1, 1)))
                R.output(conv)
            return conv

    assert_becomes(FoldBatchNorm(), Before, After)


def test_dense_layer_and_batch_norm() -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2)

    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 3), "float32")):
            with R.dataflow():
                dense = R.matmul(data, R.const(matrix))
                bn = R.nn.batch_norm(
                    dense,
                    R.const(GAMMA),
                    R.const(BETA),
                    R.const(MEAN),
                    R.const(VARIANCE),
                    axis=1,
                    epsilon=0.25,
                    training=False,
                )
                y = bn[0]
                R.output(y)
            return y

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 3), "float32")):
            with R.dataflow():
                dense = R.matmul(data, R.const(np.float32([[0, 3], [2, 9], [4, 15]])))
                dense = R.add(dense, R.const(np.float32([[4, -4]])))
                R.output(dense)
            return dense

    assert_becomes(FoldBatchNorm(), Before, After)


def test_lone_batch_norm() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 2, 4, 4), "float32")):
            with R.dataflow():
                bn = R.nn.batch_norm(
                    data,
                    R.const(GAMMA),
                    R.const(BETA),
                    R.const(MEAN),
                    R.const(VARIANCE),
                    axis=1,
                    epsilon=0.25,
                    training=False,
                )
                y = bn[0]
                R.output(y)
            return y

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 2, 4, 4), "float32")):
            with R.dataflow():
                bn = R.multiply(data, R.const(np.float32([1, 3]).reshape(1, 2, 1, 1)))
                bn = R.add(bn, R.const(np.float32([4, -4]).reshape(1, 2, 1, 1)))
                R.output(bn)
            return bn

    assert_becomes(FoldBatchNorm(), Before, After)


def test_reshaped_and_transposed_constants() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 2), "float32")):
            with R.dataflow():
                matrix = R.permute_dims(R.const(np.float32([[1, 2], [3, 4], [5, 6]])))
                dense = R.matmul(data, matrix)
                row = R.reshape(R.const(np.float32([7, 8, 9])), R.shape([1, 3]))
                y = R.add(dense, row)
                R.output(y)
            return y

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 2), "float32")):
            with R.dataflow():
                dense = R.matmul(data, R.const(np.float32([[1, 3, 5], [2, 4, 6]])))
                y = R.add(dense, R.const(np.float32([[7, 8, 9]])))
                R.output(y)
            return y

    assert_becomes(FoldConstants(), Before, After)


# ---- what folding means --------------------------------------------------------------------------
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
