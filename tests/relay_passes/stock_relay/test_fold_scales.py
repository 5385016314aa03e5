"""Factors of channels move into weights, in float32 steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.stock_relay.fold_scales import fold_scales
from relay_passes.stock_relay.nodes import post_order, read_nodes, write_nodes
from relay_passes.stock_relay.options import StockOptions
from relay_passes.stock_relay.quantize import StockRelay
from tests.relay_passes.expected import assert_becomes
from tests.relay_passes.stock_relay.models import model, ops, random, run, weights

op = relax.op


def folded(mod: Any) -> Any:
    return write_nodes(fold_scales(read_nodes(mod)), mod)


W = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)


def test_a_factor_moves_back_into_the_convolution() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 3, 2, 2), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(data, R.const(W), data_layout="NCHW")
                biased = R.add(conv, R.const(np.float32([10, 20]).reshape(1, 2, 1, 1)))
                relu = R.nn.relu(biased)
                y = R.multiply(relu, R.const(np.float32([2, 0.5]).reshape(1, 2, 1, 1)))
                R.output(y)
            return y

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 3, 2, 2), "float32")):
            with R.dataflow():
                conv_nhwc_input = R.permute_dims(data, [0, 2, 3, 1])
                conv_nhwc = R.nn.conv2d(
                    conv_nhwc_input,
                    R.const(np.float32([[0, 2, 4], [1.5, 2, 2.5]]).T.reshape(1, 1, 3, 2)),
                    data_layout="NHWC",
                    kernel_layout="HWIO",
                    out_dtype="float32",
                )
                conv = R.permute_dims(conv_nhwc, [0, 3, 1, 2])
                biased = R.add(conv, R.const(np.float32([20, 10]).reshape(1, 2, 1, 1)))
                relu = R.nn.relu(biased)
                R.output(relu)
            return relu

    assert_becomes(folded, Before, After)


def test_a_factor_moves_on_into_the_convolution_that_reads_it() -> None:
    """(x · s + t) becomes (x + t / s), and s the reader's."""

    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 3, 2, 2), "float32")):
            with R.dataflow():
                product = R.multiply(data, R.const(np.float32([2, 4, 0.5]).reshape(1, 3, 1, 1)))
                total = R.add(product, R.const(np.float32([6, 2, 3]).reshape(1, 3, 1, 1)))
                y = R.nn.conv2d(total, R.const(W))
                R.output(y)
            return y

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 3, 2, 2), "float32")):
            with R.dataflow():
                total = R.add(data, R.const(np.float32([3, 0.5, 6]).reshape(1, 3, 1, 1)))
                y_nhwc_input = R.permute_dims(total, [0, 2, 3, 1])
                y_nhwc = R.nn.conv2d(
                    y_nhwc_input,
                    R.const(np.float32([[0, 4, 1], [6, 16, 2.5]]).T.reshape(1, 1, 3, 2)),
                    data_layout="NHWC",
                    kernel_layout="HWIO",
                    out_dtype="float32",
                )
                y = R.permute_dims(y_nhwc, [0, 3, 1, 2])
                R.output(y)
            return y

    assert_becomes(folded, Before, After)


def test_batch_norm_folds_in_relays_float32_steps() -> None:
    gamma, beta, mean = (random(4, seed=s) for s in (1, 2, 3))
    variance = np.abs(random(4, seed=4)) + np.float32(0.1)
    weight = random(4, 3, 1, 1)

    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, relax.const(weight)))
        norm = [relax.const(v) for v in (gamma, beta, mean, variance)]
        tuple_ = emit(op.nn.batch_norm(conv, *norm, axis=1, epsilon=1e-5, training=False))
        return emit(op.nn.relu(emit(relax.TupleGetItem(tuple_, 0))))

    mod = model((1, 3, 4, 4), body)
    graph = fold_scales(read_nodes(mod))
    assert ops(graph) == ["conv2d", "add", "relu"]
    scale = np.float32(1) / np.sqrt(variance + np.float32(1e-5)) * gamma
    constants = [n.value for n in post_order(graph) if n.value is not None]
    np.testing.assert_array_equal(constants[0], weight * scale.reshape(4, 1, 1, 1))
    np.testing.assert_array_equal(constants[1].ravel(), -mean * scale + beta)


def preactivation(factor: np.ndarray, *, relu: bool, shared: bool = False) -> Any:
    """x · factor + bias -> (relu) -> two convolutions; shared: the product is a result as well."""

    def body(emit: Any, x: Any) -> Any:
        pooled = emit(op.nn.max_pool2d(x, (2, 2), (2, 2)))
        product = emit(op.multiply(pooled, relax.const(factor.reshape(1, 3, 1, 1))))
        data = emit(op.add(product, relax.const(random(1, 3, 1, 1, seed=1))))
        data = emit(op.nn.relu(data)) if relu else data
        depthwise = emit(op.nn.conv2d(data, weights(3, 1, 1, 1, seed=2), groups=3))
        full = emit(op.nn.conv2d(data, weights(3, 3, 1, 1, seed=3)))
        total = emit(op.add(depthwise, full))
        return emit(op.add(total, product)) if shared else total

    return model((1, 3, 4, 4), body)


@pytest.mark.parametrize(
    ("factor", "relu", "shared", "folds"),
    [
        ((2, 3, 5), True, False, True),
        ((2, -3, 5), False, False, True),
        ((2, -3, 5), True, False, False),
        ((2, 3, 5), True, True, False),
    ],
)
def test_factor_moves_on_into_all_convolutions_that_read_it(
    factor: tuple[int, ...], relu: bool, shared: bool, folds: bool
) -> None:
    mod = preactivation(np.array(factor, np.float32), relu=relu, shared=shared)
    graph = fold_scales(read_nodes(mod))
    assert ("multiply" in ops(graph)) is not folds
    if folds:
        bias = next(n.args[1].value for n in post_order(graph) if n.op == "add")
        expected = random(1, 3, 1, 1, seed=1) / np.array(factor, np.float32).reshape(1, 3, 1, 1)
        np.testing.assert_array_equal(bias, expected)
    x = random(1, 3, 4, 4)
    result = run(StockRelay(StockOptions(skip_conv_layers=(0, 1)))(mod), x)
    np.testing.assert_allclose(result, run(mod, x), rtol=1e-5, atol=1e-5)


def scaled_model(factor: np.ndarray, *, relu: bool) -> Any:
    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, weights(2, 3, 1, 1)))
        conv = emit(op.add(conv, relax.const(random(1, 2, 1, 1, seed=1))))
        conv = emit(op.nn.relu(conv)) if relu else conv
        return emit(op.multiply(conv, relax.const(factor.reshape(1, 2, 1, 1))))

    return model((1, 3, 4, 4), body)


@pytest.mark.parametrize(
    ("factor", "relu", "folds"),
    [((2, -3), False, True), ((2, 3), True, True), ((2, -3), True, False)],
)
def test_factor_moves_into_the_weights_through_relu_only_when_positive(
    factor: tuple[int, int], relu: bool, folds: bool
) -> None:
    mod = scaled_model(np.array(factor, np.float32), relu=relu)
    graph = fold_scales(read_nodes(mod))
    assert ("multiply" in ops(graph)) is not folds
    x = random(1, 3, 4, 4)
    float_again = StockRelay(StockOptions(skip_conv_layers=(0,)))(mod)
    np.testing.assert_allclose(run(float_again, x), run(mod, x), rtol=1e-5, atol=1e-5)
