"""One small network at each stage from floats to integers, and its plan, all numbers by hand.

Two convolutions of one pixel; scales s: data 1/2, conv0 1, conv0.relu 1/4; weights 1/4 and 1/2.

Names of tensors have points, which the texts cannot: `FLOATS`, `PAIRS`, `FUSED` and `INTEGERS` are
the modules for passes, which also know the layer of an accumulator.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.integers.plan import LayerPlan, QuantPlan
from relay_passes.names import with_layer_names
from relay_passes.params import QuantParams, Requant
from tests.relay_passes.expected import named

W0 = np.float32([1, -0.5]).reshape(2, 1, 1, 1)
B0 = np.float32([0.25, -1]).reshape(1, 2, 1, 1)
W1 = np.float32([1.5, 1.125]).reshape(1, 2, 1, 1)
#: W0 / (1/4) and W1 / (1/2); 2.25 is rounded.
Q0 = np.int8([4, -2]).reshape(2, 1, 1, 1)
Q1 = np.int8([3, 2]).reshape(1, 2, 1, 1)

PLAN = QuantPlan(
    tensors={
        "data": QuantParams(scale=(0.5,)),
        "conv0": QuantParams(scale=(1.0,)),
        "conv0.relu": QuantParams(scale=(0.25,), signed=False),
    },
    weights={"conv0.acc": QuantParams(scale=(0.25,)), "conv1": QuantParams(scale=(0.5,))},
    layers=(
        LayerPlan(
            name="conv0",
            inputs=("data",),
            operators=("conv0.acc", "conv0", "conv0.relu"),
            output="conv0.relu",
            # 1/2 * 1/4 / (1/4)
            requant=Requant(multiplier=(1,), shift=(1,), ratio=(Fraction(1, 2),)),
        ),
        LayerPlan(name="conv1", inputs=("conv0.relu",), operators=("conv1",)),
    ),
)


@I.ir_module
class Floats:
    @R.function
    def main(data: R.Tensor((1, 1, 2, 2), "float32")):
        with R.dataflow():
            conv0_acc = R.nn.conv2d(data, R.const(W0))
            conv0 = R.add(conv0_acc, R.const(B0))
            conv0_relu = R.nn.relu(conv0)
            conv1 = R.nn.conv2d(conv0_relu, R.const(W1))
            R.output(conv1)
        return conv1


@I.ir_module
class Pairs:
    """After `Quantize`: every tensor that an integer operator reads, and every weight."""

    @R.function
    def main(data: R.Tensor((1, 1, 2, 2), "float32")):
        with R.dataflow():
            data_q = R.quantize(
                data, R.const(0.5, "float32"), R.const(0, "int8"), axis=-1, out_dtype="int8"
            )
            data_dq = R.dequantize(
                data_q, R.const(0.5, "float32"), R.const(0, "int8"), axis=-1, out_dtype="float32"
            )
            conv0_acc_weight = R.dequantize(
                R.const(Q0),
                R.const(0.25, "float32"),
                R.const(0, "int8"),
                axis=0,
                out_dtype="float32",
            )
            conv0_acc = R.nn.conv2d(data_dq, conv0_acc_weight)
            conv0 = R.add(conv0_acc, R.const(B0))
            conv0_q = R.quantize(
                conv0, R.const(1, "float32"), R.const(0, "int8"), axis=-1, out_dtype="int8"
            )
            conv0_dq = R.dequantize(
                conv0_q, R.const(1, "float32"), R.const(0, "int8"), axis=-1, out_dtype="float32"
            )
            conv0_relu = R.nn.relu(conv0_dq)
            conv0_relu_q = R.quantize(
                conv0_relu, R.const(0.25, "float32"), R.const(0, "int8"), axis=-1, out_dtype="int8"
            )
            conv0_relu_dq = R.dequantize(
                conv0_relu_q,
                R.const(0.25, "float32"),
                R.const(0, "int8"),
                axis=-1,
                out_dtype="float32",
            )
            conv1_weight = R.dequantize(
                R.const(Q1),
                R.const(0.5, "float32"),
                R.const(0, "int8"),
                axis=0,
                out_dtype="float32",
            )
            conv1 = R.nn.conv2d(conv0_relu_dq, conv1_weight)
            R.output(conv1)
        return conv1


@I.ir_module
class Fused:
    """After `FuseConvRelu`: the convolution's own scale is gone."""

    @R.function
    def main(data: R.Tensor((1, 1, 2, 2), "float32")):
        with R.dataflow():
            data_q = R.quantize(
                data, R.const(0.5, "float32"), R.const(0, "int8"), axis=-1, out_dtype="int8"
            )
            data_dq = R.dequantize(
                data_q, R.const(0.5, "float32"), R.const(0, "int8"), axis=-1, out_dtype="float32"
            )
            conv0_acc_weight = R.dequantize(
                R.const(Q0),
                R.const(0.25, "float32"),
                R.const(0, "int8"),
                axis=0,
                out_dtype="float32",
            )
            conv0_acc = R.nn.conv2d(data_dq, conv0_acc_weight)
            conv0 = R.add(conv0_acc, R.const(B0))
            conv0_relu = R.nn.relu(conv0)
            conv0_relu_q = R.quantize(
                conv0_relu, R.const(0.25, "float32"), R.const(0, "int8"), axis=-1, out_dtype="int8"
            )
            conv0_relu_dq = R.dequantize(
                conv0_relu_q,
                R.const(0.25, "float32"),
                R.const(0, "int8"),
                axis=-1,
                out_dtype="float32",
            )
            conv1_weight = R.dequantize(
                R.const(Q1),
                R.const(0.5, "float32"),
                R.const(0, "int8"),
                axis=0,
                out_dtype="float32",
            )
            conv1 = R.nn.conv2d(conv0_relu_dq, conv1_weight)
            R.output(conv1)
        return conv1


@I.ir_module
class Integers:
    """After `Requantize`: bias [1/4, -1] / (1/2 * 1/4) = [2, -8], and 1 for rounding."""

    @R.function
    def main(data: R.Tensor((1, 1, 2, 2), "float32")):
        with R.dataflow():
            data_q_scaled = R.multiply(data, R.const(2, "float32"))
            data_q_half = R.add(data_q_scaled, R.const(0.5, "float32"))
            data_q_floor = R.floor(data_q_half)
            data_q_clip = R.clip(data_q_floor, -127.0, 127.0)
            data_q = R.astype(data_q_clip, "int8")
            conv0_acc = R.nn.conv2d(data_q, R.const(Q0), out_dtype="int32")
            conv0_relu_bias = R.add(conv0_acc, R.const(np.int32([3, -7]).reshape(1, 2, 1, 1)))
            conv0_relu_shr = R.right_shift(conv0_relu_bias, R.const(1, "int32"))
            conv0_relu_clip = R.clip(conv0_relu_shr, 0, 127)
            conv0_relu = R.astype(conv0_relu_clip, "int8")
            conv1_acc = R.nn.conv2d(conv0_relu, R.const(Q1), out_dtype="int32")
            conv1_float = R.astype(conv1_acc, "float32")
            conv1_real = R.multiply(conv1_float, R.const(0.125, "float32"))
            R.output(conv1_real)
        return conv1_real


NAMES = [
    *("data.q", "data.dq", "conv0.acc", "conv0.acc.weight", "conv0.q", "conv0.dq"),
    *("conv0.relu", "conv0.relu.q", "conv0.relu.dq", "conv1.weight"),
    *(f"data.q.{step}" for step in ("scaled", "half", "floor", "clip")),
    *("conv0.relu.bias", "conv0.relu.shr", "conv0.relu.clip"),
    *("conv1.acc", "conv1.float", "conv1.real"),
]
FLOATS, PAIRS, FUSED, INTEGERS = (
    with_layer_names(named(mod, NAMES), {"conv0.acc": "conv0"})
    for mod in (Floats, Pairs, Fused, Integers)
)
INTEGERS = with_layer_names(INTEGERS, {"conv0.acc": "conv0", "conv1.acc": "conv1"})
