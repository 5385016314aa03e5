"""One scale for every activation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.graph import constant, read_graph
from relay_passes.params import QuantParams
from relay_passes.quantize_model import prepare
from relay_passes.scales.bit_widths import Precision
from relay_passes.scales.single_scale import SingleScale
from tests.relay_passes.models import residual_net
from vta_config.errors import CalibrationError


@I.ir_module
class Network:
    @R.function
    def main(data: R.Tensor((1, 2, 1, 3), "float32")):
        with R.dataflow():
            conv = R.nn.conv2d(data, R.const(np.float32([0.3, -0.25]).reshape(1, 2, 1, 1)))
            mean = R.mean(conv, axis=[2, 3], keepdims=True)
            last = R.nn.conv2d(mean, R.const(np.float32([2.0]).reshape(1, 1, 1, 1)))
            R.output(last)
        return last


def test_scales_by_hand() -> None:
    """8/128 everywhere; a mean of 3 has 4/3 of it, and the next weight takes in the 4/3."""
    scales = SingleScale()(Network, {})
    assert {name: params.scale[0] for name, params in scales.tensors.items()} == {
        "data": 1 / 16, "conv": 1 / 16, "mean": 1 / 16 / 3 * 4, "last": 1 / 16,
    }  # fmt: skip
    # 2^ceil(log2 0.3) = 1/2; and for 2 * 4/3: 4.
    odd = 4 / 3
    assert scales.weights == {
        "conv": QuantParams(scale=(0.5 / 128,)),
        "last": QuantParams(scale=(4 / 128 / odd,)),
    }


@pytest.mark.parametrize(("bits", "scale"), [(8, 4 / 128), (4, 4 / 8)])
def test_global_scale_and_bits(bits: int, scale: float) -> None:
    precision = Precision(tensors={"data": bits}, weights={"conv": bits})
    scales = SingleScale(global_scale=4.0)(Network, {}, precision)
    assert scales.tensors["data"] == QuantParams(scale=(scale,), bits=bits)
    assert scales.weights["conv"].scale[0] == 0.5 / (1 << (bits - 1))


def test_a_zero_point_makes_steps_half_as_large() -> None:
    precision = Precision(zero_points=frozenset({"conv"}))
    scales = SingleScale()(Network, {}, precision)
    assert {n: p.scale[0] for n, p in scales.tensors.items() if n in ("data", "conv")} == {
        "data": 1 / 16,
        "conv": 1 / 32,
    }


def test_blocks_have_no_scales_of_their_own() -> None:
    chooser = SingleScale()
    assert chooser.for_block(4) is chooser


def test_single_scale() -> None:
    net = prepare(residual_net())
    scales = SingleScale()(net, {})
    assert scales.tensors["data"].scale == scales.tensors["conv2.add"].scale == (1 / 16,)
    assert scales.tensors["avgpool0"].scale[0] == 16 / 9 / 16
    weight = next(
        constant(b.value.args[1]) for b in read_graph(net).bindings if b.var.name == "conv1.acc"
    )
    expected = 2.0 ** math.ceil(math.log2(np.abs(weight).max())) / 128
    assert scales.weights["conv1.acc"].scale == (expected,)


def test_scales_that_are_no_power_of_two() -> None:
    with pytest.raises(
        CalibrationError, match=r"SingleScale\.global_scale: must be a power of two"
    ):
        SingleScale(global_scale=6.0)
