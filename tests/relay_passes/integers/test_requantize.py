"""`Requantize` makes integer operators of pairs, every number from the plan."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.graph import constant, op_name, read_graph
from relay_passes.host.run import HostModule
from relay_passes.integers.fuse_conv_relu import FuseConvRelu
from relay_passes.integers.integer_facts import (
    host_reasons,
    quantization_plan,
    requantization_errors,
)
from relay_passes.integers.plan import LayerPlan, QuantPlan, SumPlan
from relay_passes.integers.quantize import Quantize
from relay_passes.integers.requantize import Requantize
from relay_passes.names import layer_names
from relay_passes.params import QuantParams, Requant
from relay_passes.partition.fallbacks import host_work
from tests.relay_passes.expected import assert_becomes
from tests.relay_passes.integers.stages import FUSED, PLAN, Q0, Integers
from tests.relay_passes.models import CNN, images
from tests.relay_passes.partition.integers import check_meaning, quantized
from vta_config.hardware import VTAConfig


def params(*scale: float) -> QuantParams:
    return QuantParams(scale=scale, granularity="tensor" if len(scale) == 1 else "block")


def exact(shift: int) -> Requant:
    return Requant(multiplier=(1,), shift=(shift,), ratio=(Fraction(2) ** -shift,))


def values(mod: Any) -> dict[str, Any]:
    return {b.var.name: b.value for b in read_graph(mod).bindings}


def integers(mod: Any, plan: QuantPlan) -> Any:
    return Requantize(plan=plan)(FuseConvRelu()(Quantize(plan=plan)(mod)))


def test_pairs_become_integers() -> None:
    assert_becomes(Requantize(plan=PLAN), FUSED, Integers)


def test_what_the_module_says_of_itself() -> None:
    mod = Requantize(plan=PLAN)(FUSED)
    assert requantization_errors(mod) == {"conv0.relu": 0.0} and host_reasons(mod) == {}
    assert quantization_plan(mod) == PLAN
    # The layer of each accumulator; else the tensor that a step is on the way to.
    assert layer_names(mod) == {
        "conv0.acc": "conv0",
        **dict.fromkeys(
            (f"data.q.{step}" for step in ("scaled", "half", "floor", "clip")), "data.q"
        ),
        **dict.fromkeys((f"conv0.relu.{step}" for step in ("bias", "shr", "clip")), "conv0.relu"),
        **dict.fromkeys((f"conv1.{step}" for step in ("acc", "float", "real")), "conv1"),
    }


def test_the_integers_by_hand() -> None:
    """Pixels x / (1/2): [1, 3, -1, 2], rounded half up; conv0 + bias, >> 1, clip; then conv1."""
    x = np.float32([0.5, 1.25, -0.75, 1.0]).reshape(1, 1, 2, 2)
    q = np.asarray([1, 3, -1, 2])
    first = [np.clip((4 * q + 3) >> 1, 0, 127), np.clip((-2 * q - 7) >> 1, 0, 127)]
    assert [row.tolist() for row in first] == [[3, 7, 0, 5], [0, 0, 0, 0]]
    (y,) = HostModule(Requantize(plan=PLAN)(FUSED))(x)
    assert y.reshape(-1).tolist() == [3 * 3 / 8, 3 * 7 / 8, 0.0, 3 * 5 / 8]


def test_a_multiplier_and_a_shift() -> None:
    """q = ((acc + bias + r) * b) >> c with r = round(2^(c-1) / b): round(8 / 3) = 3."""
    third = Requant(multiplier=(3,), shift=(4,), ratio=(Fraction(3, 16),))
    first, second = PLAN.layers
    plan = replace(PLAN, layers=(replace(first, requant=third), second))

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            with R.dataflow():
                data_q_scaled = R.multiply(data, R.const(2, "float32"))
                data_q_half = R.add(data_q_scaled, R.const(0.5, "float32"))
                data_q_floor = R.floor(data_q_half)
                data_q_clip = R.clip(data_q_floor, -127.0, 127.0)
                data_q = R.astype(data_q_clip, "int8")
                conv0_acc = R.nn.conv2d(data_q, R.const(Q0), out_dtype="int32")
                conv0_relu_bias = R.add(conv0_acc, R.const(np.int32([5, -5]).reshape(1, 2, 1, 1)))
                conv0_relu_mul = R.multiply(conv0_relu_bias, R.const(3, "int32"))
                conv0_relu_shr = R.right_shift(conv0_relu_mul, R.const(4, "int32"))
                conv0_relu_clip = R.clip(conv0_relu_shr, 0, 127)
                conv0_relu = R.astype(conv0_relu_clip, "int8")
                conv1_acc = R.nn.conv2d(
                    conv0_relu, R.const(np.int8([3, 2]).reshape(1, 2, 1, 1)), out_dtype="int32"
                )
                conv1_float = R.astype(conv1_acc, "float32")
                conv1_real = R.multiply(conv1_float, R.const(0.125, "float32"))
                R.output(conv1_real)
            return conv1_real

    assert_becomes(Requantize(plan=plan), FUSED, After)
    off = replace(third, ratio=(Fraction(1, 5),))
    plan = replace(PLAN, layers=(replace(first, requant=off), second))
    errors = requantization_errors(Requantize(plan=plan)(FUSED))
    assert errors == {"conv0.relu": float(abs(Fraction(3, 16) / Fraction(1, 5) - 1))}


@I.ir_module
class Residual:
    """relu(conv(x) + x), where x is the input; then the average pool and a dense layer."""

    @R.function
    def main(data: R.Tensor((1, 1, 2, 2), "float32")):
        with R.dataflow():
            conv = R.nn.conv2d(data, R.const(np.float32([[[[2]]]])))
            total = R.add(conv, data)
            y = R.nn.relu(total)
            pool = R.mean(y, axis=[2, 3], keepdims=True)
            flat = R.reshape(pool, R.shape([1, 1]))
            dense = R.matmul(flat, R.const(np.float32([[3, -5]])))
            R.output(dense)
        return dense


#: Scales: data 1/2, weight 1/8 -> accumulator 1/16; y 1/2; pool 1/2; matrix 1.
RESIDUAL = QuantPlan(
    tensors={"data": params(0.5), "y": params(0.5), "pool": params(0.5), "flat": params(0.5)}
    | {"conv": params(1.0), "total": params(1.0)},
    weights={"conv": params(0.125), "dense": params(1.0)},
    layers=(
        LayerPlan(
            name="conv",
            inputs=("data", "data"),
            operators=("conv", "total", "y"),
            output="y",
            requant=exact(3),
        ),
        LayerPlan(name="pool", inputs=("y",), operators=("pool",), output="pool", requant=exact(2)),
        LayerPlan(name="dense", inputs=("flat",), operators=("dense",)),
    ),
    sums={"total": SumPlan(first="conv", second="data.q", second_shift=(3,))},
)


def test_a_residual_an_average_and_a_dense_layer() -> None:
    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            with R.dataflow():
                data_q_scaled = R.multiply(data, R.const(2, "float32"))
                data_q_half = R.add(data_q_scaled, R.const(0.5, "float32"))
                data_q_floor = R.floor(data_q_half)
                data_q_clip = R.clip(data_q_floor, -127.0, 127.0)
                data_q = R.astype(data_q_clip, "int8")
                conv_acc = R.nn.conv2d(data_q, R.const(np.int8([[[[16]]]])), out_dtype="int32")
                data_q_wide = R.astype(data_q, "int32")
                data_q_shl = R.left_shift(data_q_wide, R.const(3, "int32"))
                total_sum = R.add(conv_acc, data_q_shl)
                y_bias = R.add(total_sum, R.const(4, "int32"))
                y_shr = R.right_shift(y_bias, R.const(3, "int32"))
                y_clip = R.clip(y_shr, 0, 127)
                y = R.astype(y_clip, "int8")
                y_wide = R.astype(y, "int32")
                pool_acc = R.sum(y_wide, axis=[2, 3], keepdims=True)
                pool_bias = R.add(pool_acc, R.const(2, "int32"))
                pool_shr = R.right_shift(pool_bias, R.const(2, "int32"))
                pool_clip = R.clip(pool_shr, -127, 127)
                pool = R.astype(pool_clip, "int8")
                flat = R.reshape(pool, R.shape([1, 1]))
                dense_acc = R.matmul(flat, R.const(np.int8([[3, -5]])), out_dtype="int32")
                dense_float = R.astype(dense_acc, "float32")
                dense_real = R.multiply(dense_float, R.const(0.5, "float32"))
                R.output(dense_real)
            return dense_real

    assert_becomes(lambda mod: integers(mod, RESIDUAL), Residual, After)


def test_a_residual_times_an_integer() -> None:
    sums = {"total": SumPlan(first="conv", second="data.q", multiplier=(6,))}
    found = values(integers(Residual, replace(RESIDUAL, sums=sums)))
    product = found["data.q.scaled_2"]
    assert op_name(product) == "multiply" and product.args[0].name == "data.q.wide"
    assert int(constant(product.args[1])) == 6
    assert [a.name for a in found["total.sum"].args] == ["conv.acc", "data.q.scaled_2"]


def test_a_residual_that_is_left_out() -> None:
    sums = {"total": SumPlan(first="conv", second="data.q", multiplier=(0,))}
    found = values(integers(Residual, replace(RESIDUAL, sums=sums)))
    assert "total.sum" not in found and found["y.bias"].args[0].name == "conv.acc"


def test_an_accumulator_that_leaves_int32_is_the_hosts() -> None:
    """|acc| <= 16 * 127, shifted left by 21 it leaves int32: the sum is computed with floats."""
    sums = {"total": SumPlan(first="conv", second="data.q", first_shift=(21,))}
    mod = integers(Residual, replace(RESIDUAL, sums=sums))
    assert host_reasons(mod) == {
        "total": "conv: must keep every accumulator below 2^31, got a bound of "
        f"{2032 << 21} in channel 0"
    }
    found = values(mod)
    assert found["total"].ty.dtype == "float32" and "total.sum" not in found


def test_what_has_no_integer_form_gets_floats() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            with R.dataflow():
                data_q = R.quantize(
                    data, R.const(0.5, "float32"), R.const(0, "int8"), axis=-1, out_dtype="int8"
                )
                data_dq = R.dequantize(
                    data_q,
                    R.const(0.5, "float32"),
                    R.const(0, "int8"),
                    axis=-1,
                    out_dtype="float32",
                )
                y = R.sigmoid(data_dq)
                R.output(y)
            return y

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            with R.dataflow():
                data_q_scaled = R.multiply(data, R.const(2, "float32"))
                data_q_half = R.add(data_q_scaled, R.const(0.5, "float32"))
                data_q_floor = R.floor(data_q_half)
                data_q_clip = R.clip(data_q_floor, -127.0, 127.0)
                data_q = R.astype(data_q_clip, "int8")
                data_q_float = R.astype(data_q, "float32")
                data_q_real = R.multiply(data_q_float, R.const(0.5, "float32"))
                y = R.sigmoid(data_q_real)
                R.output(y)
            return y

    plan = QuantPlan(tensors={"data": params(0.5)}, weights={})
    assert_becomes(Requantize(plan=plan), Before, After)


def test_a_limit_of_a_result_that_no_instruction_holds(default_config: VTAConfig) -> None:
    """The result keeps all its bits: VTA computes the layer, and the host clips the floats."""
    net = CNN()
    x = net.conv(net.relu(net.conv(net.data, 8)), 4)
    mod = quantized(net.module(net.emit(relax.op.clip(x, 0.0, 500.0))))
    work = host_work(mod, default_config)
    assert (work.fallbacks, [f.operator for f in work.behind]) == ((), ["clip"])
    assert min(float(HostModule(mod)(x)[0].min()) for x in images(2)) == 0.0
    layers = check_meaning(mod, default_config)
    assert [layer.kind for layer in layers] == ["conv2d", "conv2d"]


def test_readers_of_an_accumulator_read_one_float(default_config: VTAConfig) -> None:
    net = CNN()
    x = net.head(net.relu(net.conv(net.data, 8)))
    result = net.emit(relax.op.divide(x, net.emit(relax.op.sum(x, axis=[1], keepdims=True))))
    mod = quantized(net.module(result))
    assert host_work(mod, default_config).fallbacks == ()
