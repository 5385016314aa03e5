"""Tensors that are never negative use all integers: what becomes of them, from scales to layers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes import numerics
from relay_passes.calibration.profiling import profile
from relay_passes.graph import Module, constant, op_name, read_graph
from relay_passes.host.run import HostModule
from relay_passes.integers.fuse_conv_relu import FuseConvRelu
from relay_passes.integers.integer_facts import quantization_plan
from relay_passes.integers.plan import QuantPlan
from relay_passes.integers.quantize import Quantize
from relay_passes.integers.requantize import Requantize
from relay_passes.params import QuantParams, Requant
from relay_passes.partition.fallbacks import fallbacks
from relay_passes.partition.read import layers_of
from relay_passes.quant_options import QuantOptions
from relay_passes.quantize_model import prepare, quantize_model
from relay_passes.scales.bit_widths import Limits, UniformWidths, Widths
from relay_passes.variants import RECIPES
from tests.relay_passes.expected import assert_becomes
from tests.relay_passes.integers.stages import FLOATS, PLAN, Q0, Q1
from tests.relay_passes.models import CNN, images, residual_net
from tests.relay_passes.partition.integers import check_meaning, quantized
from vta_config import VTAConfig
from vta_config.errors import CalibrationError

VARIANTS = (
    "profiled",
    "profiled_fused",
    "per_tensor",
    "best",
    "fine_residuals",
    "dyadic",
    "dyadic_any",
    "per_channel",
    "w4a8",
    "w4a4",
)


def clipped_net() -> Any:
    """Depthwise convolution, ReLU6, uneven padding, a residual of a clipped tensor, two heads."""
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    x = net.relu(net.conv(x, 8, groups=8))
    x = net.emit(relax.op.clip(net.conv(x, 16, padding=(0, 1, 2, 0)), 0.0, 0.7))
    x = net.relu(net.add(x, net.conv(x, 16)))
    return net.module(net.head(net.conv(x, 8)))


def dense_net() -> Any:
    """A dense layer that covers a feature map, and one behind it."""
    net = CNN()
    x = net.emit(relax.op.nn.max_pool2d(net.relu(net.conv(net.data, 4)), (4, 4), (4, 4)))
    x = net.emit(relax.op.reshape(x, (1, 36)))
    x = net.relu(net.add(net.emit(relax.op.matmul(x, net.const(36, 9))), net.const(9)))
    return net.module(net.emit(relax.op.matmul(x, net.const(9, 5))))


@pytest.mark.slow
@pytest.mark.parametrize("make", [residual_net, clipped_net, dense_net])
@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_mean_what_the_graph_computes(
    make: Any, variant: str, default_config: VTAConfig
) -> None:
    options = replace(RECIPES[variant].options, zero_points=True)
    machine = replace(default_config, capabilities=options.capabilities)
    mod = quantized(make(), options)
    assert fallbacks(mod, machine) == ()
    layers = check_meaning(mod, machine)
    zero = -8 if variant == "w4a4" else -128
    padded = {
        layer.pad_value for layer in layers[1:] if any(layer.padding) and layer.weight is not None
    }
    assert padded <= {zero, -128} and (zero in padded or make is dense_net)
    assert layers[0].pad_value == 0


def test_an_input_of_pixels_is_padded_with_its_zero_point(default_config: VTAConfig) -> None:
    mod = prepare(residual_net())
    profiles = profile(mod, [np.abs(x) for x in images(2)])
    options = replace(RECIPES["ordered_channels"].options, zero_points=True)
    machine = replace(default_config, capabilities=options.capabilities)
    found = quantize_model(mod, profiles, options)
    assert fallbacks(found, machine) == ()
    layers = check_meaning(found, machine)
    assert layers[0].pad_value == -128 and any(layers[0].padding)


# ---- by hand -------------------------------------------------------------------------------------
FULL = QuantParams(scale=(0.25,), signed=False, zero_point=-128)
ZERO_PLAN = replace(PLAN, tensors={**PLAN.tensors, "conv0.relu": FULL})


def integers(mod: Module, plan: QuantPlan) -> Module:
    return Requantize(plan=plan)(FuseConvRelu()(Quantize(plan=plan)(mod)))


@I.ir_module
class Integers:
    """`stages.Integers` with zero point -128 after the ReLU: 128 · 2 less, then 128 · 5 more."""

    @R.function
    def main(data: R.Tensor((1, 1, 2, 2), "float32")):
        with R.dataflow():
            data_q_scaled = R.multiply(data, R.const(2, "float32"))
            data_q_half = R.add(data_q_scaled, R.const(0.5, "float32"))
            data_q_floor = R.floor(data_q_half)
            data_q_clip = R.clip(data_q_floor, -127.0, 127.0)
            data_q = R.astype(data_q_clip, "int8")
            conv0_acc = R.nn.conv2d(data_q, R.const(Q0), out_dtype="int32")
            conv0_relu_bias = R.add(
                conv0_acc, R.const(np.int32([3 - 256, -7 - 256]).reshape(1, 2, 1, 1))
            )
            conv0_relu_shr = R.right_shift(conv0_relu_bias, R.const(1, "int32"))
            conv0_relu_clip = R.clip(conv0_relu_shr, -128, 127)
            conv0_relu = R.astype(conv0_relu_clip, "int8")
            conv1_acc = R.nn.conv2d(conv0_relu, R.const(Q1.reshape(1, 2, 1, 1)), out_dtype="int32")
            conv1_bias = R.add(conv1_acc, R.const(640, "int32"))
            conv1_float = R.astype(conv1_bias, "float32")
            conv1_real = R.multiply(conv1_float, R.const(0.125, "float32"))
            R.output(conv1_real)
        return conv1_real


def test_the_constants_take_the_zero_points_in() -> None:
    assert_becomes(lambda mod: integers(mod, ZERO_PLAN), FLOATS, Integers)
    x = np.float32([0.5, 1.25, -0.75, 1.0]).reshape(1, 1, 2, 2)
    (y,), (symmetric,) = (HostModule(integers(FLOATS, p))(x) for p in (ZERO_PLAN, PLAN))
    np.testing.assert_array_equal(y, symmetric)  # nothing reaches 127 here
    x = np.full((1, 1, 2, 2), 60.0, np.float32)  # 4 · 120 + 3 >> 1: 241
    (y,), (symmetric,) = (HostModule(integers(FLOATS, p))(x) for p in (ZERO_PLAN, PLAN))
    assert (y.max(), symmetric.max()) == (3 * 241 / 8, 3 * 127 / 8)


def test_a_graph_with_another_zero_point_is_refused() -> None:
    mod = FuseConvRelu()(Quantize(plan=ZERO_PLAN)(FLOATS))
    other = replace(FULL, zero_point=0)
    plan = replace(ZERO_PLAN, tensors={**PLAN.tensors, "conv0.relu": other})
    with pytest.raises(
        CalibrationError,
        match=r"conv0\.relu: must have the zero point 0, as its quantization plan says, got -128",
    ):
        Requantize(plan=plan)(mod)


# ---- the host, and accumulators of other kinds ------------------------------------------------
def host_net() -> Module:
    """A softmax that the host computes of what a convolution reads, too; one reads the softmax."""
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    y = net.emit(relax.op.nn.softmax(x, axis=1))
    return net.module(net.conv(x, 4), net.conv(y, 4))


def test_the_host_reads_and_makes_tensors_with_a_zero_point(default_config: VTAConfig) -> None:
    mod = prepare(host_net())
    found = quantized(host_net(), QuantOptions(zero_points=True))
    plan = quantization_plan(found)
    assert plan is not None
    assert {n: p.zero_point for n, p in plan.tensors.items() if p.zero_point} == {
        "conv0.relu": -128,
        "softmax0": -128,
    }
    told = [(f.name, f.operator) for f in fallbacks(found, default_config)]
    assert told == [
        ("conv0.relu", "dequantize"),
        ("softmax0", "nn.softmax"),
        ("softmax0", "quantize"),
    ]
    x = np.random.default_rng(9).normal(0, 1, (1, 3, 12, 12)).astype(np.float32)
    for exact, rounded in zip(HostModule(mod)(x), HostModule(found)(x), strict=True):
        assert numerics.sqnr_db(exact, rounded) > 30.0


@pytest.mark.parametrize("bits", [4, 8])
def test_a_ceiling_counts_from_the_zero_point(bits: int, default_config: VTAConfig) -> None:
    net = CNN((1, 1, 4, 4))
    x = net.emit(relax.op.clip(net.conv(net.data, 2), 0.0, 6.0))
    mod = prepare(net.module(net.conv(x, 1)))
    images = [np.full((1, 1, 4, 4), v, np.float32) for v in (100.0, -100.0)]
    widths = UniformWidths(inner=Widths(activation_bits=bits), ends=None)
    options = QuantOptions(zero_points=True, widths=widths)
    found = quantize_model(mod, profile(mod, images), options)
    limits = {op.op: op.value for op in layers_of(found, default_config)[0].post_ops}
    # 6.0 of [0, 255] · 2^-5 and of [0, 15] · 2^-1
    zero, top = (-128, 192) if bits == 8 else (-8, 12)
    assert (limits["max"], limits["min"]) == (zero, zero + top)


def test_narrow_machines_reach_less_far(default_config: VTAConfig) -> None:
    options = QuantOptions(zero_points=True, limits=Limits(weight=119, activation=119))
    layers = layers_of(quantized(residual_net(), options), default_config)
    limits = [{op.op: op.value for op in layer.post_ops} for layer in layers]
    assert (limits[0]["max"], limits[0]["min"]) == (-128, 119)


def test_a_sum_that_saturates_is_not_shifted_out_of_range() -> None:
    """The accumulator's unit is 2^k of the output's: 0 is the bias, anything else saturates."""
    x = np.float32([0.0, 0.5, -0.5, 63.5]).reshape(1, 1, 2, 2)
    for octaves in (0, 7, 8, 9, 12, 20):
        scale = 0.125 * 2.0**-octaves
        relu = replace(FULL, scale=(scale,))
        exact = Requant(multiplier=(1,), shift=(-octaves,), ratio=(Fraction(2) ** octaves,))
        first = replace(PLAN.layers[0], requant=exact)
        plan = replace(
            PLAN, tensors={**PLAN.tensors, "conv0.relu": relu}, layers=(first, *PLAN.layers[1:])
        )
        (y,) = HostModule(integers(FLOATS, plan))(x)
        # conv0: 4 q + 2 and -2 q - 8 in units of 1/8, for q in (0, 1, -1, 127)
        sums = np.asarray([[2, 6, -2, 510], [-8, -10, -6, -262]])
        q = np.clip(sums * 2.0**octaves, 0, 255)
        assert y.reshape(-1).tolist() == (np.asarray([3, 2]) @ q * (scale / 2)).tolist()


def test_a_multiplier_takes_the_zero_point_in() -> None:
    """q = ((acc + bias + r) * b) >> c, r = round((z + 1/2) 2^c / b) = round(-127.5 * 16 / 3)."""
    third = Requant(multiplier=(3,), shift=(4,), ratio=(Fraction(3, 16),))
    first, second = PLAN.layers
    plan = replace(ZERO_PLAN, layers=(replace(first, requant=third), second))
    calls = {b.var.name: b.value for b in read_graph(integers(FLOATS, plan)).bindings}
    added = constant(calls["conv0.relu.bias"].args[1])
    assert added is not None and added.reshape(-1).tolist() == [2 - 680, -8 - 680]
    assert [float(a.value) for a in calls["conv0.relu.clip"].args[1:]] == [-128, 127]


def test_stride_and_uneven_padding(default_config: VTAConfig) -> None:
    mod = quantized(clipped_net(), QuantOptions(zero_points=True))
    pads = [b.value for b in read_graph(mod).bindings if op_name(b.value) == "nn.pad"]
    assert [int(float(call.attrs.pad_value)) for call in pads] == [-128] * 4
    (layer,) = (x for x in layers_of(mod, default_config) if x.padding == (0, 1, 2, 0))
    assert layer.in_shape == (1, 8, 12, 12) and layer.pad_value == -128
