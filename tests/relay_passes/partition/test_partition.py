"""Composite functions, annotated functions; the layers mean what Relax computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.partition.fallbacks import fallbacks
from relay_passes.partition.partition import NameFunctions, WrapLayers, partition
from relay_passes.partition.read import find_layers, subgraph_of
from relay_passes.quant_options import QuantOptions
from relay_passes.requirements import PICTURES
from relay_passes.scales.power_of_two import ProfiledScales
from relay_passes.variants import VARIANTS
from tests.relay_passes.expected import assert_becomes
from tests.relay_passes.integers.stages import INTEGERS, Q0, Q1
from tests.relay_passes.models import residual_net
from tests.relay_passes.partition.integers import (
    Int8,
    check_meaning,
    quantized,
    refused,
    vector,
)
from vta_config import VTAConfig


@pytest.mark.parametrize("variant", [n for n, v in VARIANTS.items() if not v.needs & PICTURES])
def test_whole_network_is_one_function(variant: str, default_config: VTAConfig) -> None:
    options = VARIANTS[variant].options
    mod = quantized(residual_net(), options)
    machine = replace(default_config, capabilities=options.capabilities)
    assert fallbacks(mod, machine) == ()
    layers = check_meaning(mod, machine)
    kinds = [layer.kind for layer in layers]
    paired = sum(len(layer.summands) for layer in layers)
    assert paired == (variant == "best")
    convolutions = ["conv2d"] * (5 - paired)
    assert kinds == ["conv2d", "max_pool2d", *convolutions, "sum_pool2d", "dense"]
    assert [layer.name for layer in layers][-1] == "dense0" and layers[-1].out_dtype == "int32"
    assert sum(len(layer.inputs) == 2 for layer in layers) == 2


def test_finer_scales_keep_their_meaning(default_config: VTAConfig) -> None:
    options = QuantOptions(chooser=ProfiledScales(weight_granularity="block"))
    check_meaning(quantized(residual_net(), options), default_config)


def test_a_shift_for_each_channel_stays_on_the_host(default_config: VTAConfig) -> None:
    t = Int8()
    acc = t.emit(relax.op.right_shift(t.conv(t.data), vector([9, 10, 9, 9])))
    assert (
        "nn.conv2d",
        "a shift or multiplier must be the same for all channels of a block",
    ) in refused(t.module(t.small(acc)), default_config)


def test_module_is_annotated(default_config: VTAConfig) -> None:
    mod = partition(quantized(residual_net()), default_config)
    assert sorted(g.name_hint for g in mod.get_global_vars()) == ["main", "vta_0"]
    function = mod["vta_0"]
    assert str(function.attrs["Codegen"]) == "vta"
    assert str(function.attrs["global_symbol"]) == "vta_0"
    subgraph = subgraph_of(function, default_config)
    assert [(s.name, s.dtype) for s in subgraph.inputs] == [("data.q", "int8")]
    assert [(s.name, s.dtype) for s in subgraph.outputs] == [("dense0", "int32")]


def test_layers_are_wrapped(default_config: VTAConfig) -> None:
    @I.ir_module
    class Wrapped:
        @R.function(private=True)
        def vta_conv2d_0(data_q: R.Tensor((1, 1, 2, 2), "int8")):
            R.func_attr(
                {
                    "Composite": "vta.conv2d",
                    "Primitive": True,
                    "vta.layer": "conv0",
                    "vta.output": "conv0.relu",
                }
            )
            with R.dataflow():
                conv0_acc = R.nn.conv2d(data_q, R.const(Q0), out_dtype="int32")
                conv0_relu_bias = R.add(conv0_acc, R.const(np.int32([3, -7]).reshape(1, 2, 1, 1)))
                conv0_relu_shr = R.right_shift(conv0_relu_bias, R.const(1, "int32"))
                conv0_relu_clip = R.clip(conv0_relu_shr, 0, 127)
                conv0_relu = R.astype(conv0_relu_clip, "int8")
                R.output(conv0_relu)
            return conv0_relu

        @R.function(private=True)
        def vta_conv2d_1(conv0_relu: R.Tensor((1, 2, 2, 2), "int8")):
            R.func_attr(
                {
                    "Composite": "vta.conv2d",
                    "Primitive": True,
                    "vta.layer": "conv1",
                    "vta.output": "conv1",
                }
            )
            with R.dataflow():
                conv1_acc = R.nn.conv2d(conv0_relu, R.const(Q1), out_dtype="int32")
                R.output(conv1_acc)
            return conv1_acc

        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            cls = Wrapped
            with R.dataflow():
                data_q_scaled = R.multiply(data, R.const(2, "float32"))
                data_q_half = R.add(data_q_scaled, R.const(0.5, "float32"))
                data_q_floor = R.floor(data_q_half)
                data_q_clip = R.clip(data_q_floor, -127.0, 127.0)
                data_q = R.astype(data_q_clip, "int8")
                conv0_relu = cls.vta_conv2d_0(data_q)
                conv1_acc = cls.vta_conv2d_1(conv0_relu)
                conv1_float = R.astype(conv1_acc, "float32")
                conv1_real = R.multiply(conv1_float, R.const(0.125, "float32"))
                R.output(conv1_real)
            return conv1_real

    assert_becomes(WrapLayers(config=default_config), INTEGERS, Wrapped)
    found = find_layers(INTEGERS, default_config)  # the same where they are known
    assert_becomes(WrapLayers(config=default_config, found=found), INTEGERS, Wrapped)


def test_functions_of_vta_are_numbered_in_the_order_of_their_calls() -> None:
    @I.ir_module
    class Before:
        @R.function
        def fused_b(x: R.Tensor((2,), "int8")) -> R.Tensor((2,), "int8"):
            R.func_attr({"Codegen": "vta"})
            y = R.nn.relu(x)
            return y

        @R.function
        def fused_a(x: R.Tensor((2,), "int8")) -> R.Tensor((2,), "int8"):
            R.func_attr({"Codegen": "vta"})
            y = R.negative(x)
            return y

        @R.function
        def other(x: R.Tensor((2,), "int8")) -> R.Tensor((2,), "int8"):
            R.func_attr({"Codegen": "dnnl"})
            y = R.abs(x)
            return y

        @R.function
        def main(data: R.Tensor((2,), "int8")):
            cls = Before
            with R.dataflow():
                first = cls.fused_b(data)
                second = cls.other(first)
                third = cls.fused_a(second)
                again = cls.fused_b(third)
                R.output(again)
            return again

    @I.ir_module
    class After:
        @R.function
        def vta_0(x: R.Tensor((2,), "int8")) -> R.Tensor((2,), "int8"):
            R.func_attr({"Codegen": "vta"})
            y = R.nn.relu(x)
            return y

        @R.function
        def vta_1(x: R.Tensor((2,), "int8")) -> R.Tensor((2,), "int8"):
            R.func_attr({"Codegen": "vta"})
            y = R.negative(x)
            return y

        @R.function
        def other(x: R.Tensor((2,), "int8")) -> R.Tensor((2,), "int8"):
            R.func_attr({"Codegen": "dnnl"})
            y = R.abs(x)
            return y

        @R.function
        def main(data: R.Tensor((2,), "int8")):
            cls = After
            with R.dataflow():
                first = cls.vta_0(data)
                second = cls.other(first)
                third = cls.vta_1(second)
                again = cls.vta_0(third)
                R.output(again)
            return again

    assert_becomes(NameFunctions(), Before, After)
