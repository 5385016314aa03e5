"""Integers that only move, and operands of concatenations in another scale."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.graph import dtype_of, op_name, read_graph
from relay_passes.integers.integer_facts import quantization_plan
from relay_passes.integers.moves import converted_name, small_ratio
from relay_passes.quant_options import QuantOptions
from relay_passes.scales.block_scales import BlockScales
from relay_passes.variants import RECIPES
from tests.relay_passes.models import CNN
from tests.relay_passes.partition.integers import check_meaning, quantized
from vta_config.hardware import VTAConfig


def network() -> Any:
    """Return a net that joins a map, a sum and a mean, pads and enlarges."""
    net = CNN()
    first = net.relu(net.conv(net.data, 16))
    total = net.relu(net.add(net.conv(first, 16), first))
    both = net.emit(relax.op.concat([first, total], axis=1))
    padded = net.emit(relax.op.nn.pad(both, [0, 0, 0, 0, 0, 1, 0, 1]))
    x = net.emit(relax.op.nn.max_pool2d(padded, (3, 3), (2, 2)))
    x = net.emit(relax.op.image.resize2d(x, (12, 12), method="nearest_neighbor"))
    return net.module(net.head(net.relu(net.conv(x, 8))))


@pytest.mark.parametrize("name", ["profiled_fused", "fine_residuals"])
def test_all_runs_on_integers(name: str, default_config: VTAConfig) -> None:
    mod = quantized(network(), RECIPES[name].options)
    kinds = [layer.kind for layer in check_meaning(mod, default_config)]
    assert kinds.count("concat") == 1 and kinds.count("move") == 2
    floats = [op_name(b.value) for b in read_graph(mod).bindings if dtype_of(b.var) == "float32"]
    assert "concat" not in floats and "nn.pad" not in floats


def test_a_sum_is_converted_once(default_config: VTAConfig) -> None:
    mod = quantized(network(), QuantOptions(chooser=BlockScales()))
    plan = quantization_plan(mod)
    assert plan is not None
    layer = plan.by_output()[converted_name("concat0", 1)]
    (total,) = layer.inputs
    assert layer.requant is not None
    ratio = plan.tensors[total].scale[0] / plan.tensors["concat0"].scale[0]
    assert float(layer.requant.ratio[0]) == pytest.approx(ratio)
    assert layer.requant.relative_error < 0.002
    names = {str(b.var.name) for b in read_graph(mod).bindings}
    assert layer.output in names and converted_name("concat0", 0) not in names
    check_meaning(mod, default_config)


@pytest.mark.parametrize("ratio", [0.5, 0.013, 1.0, 0.999, 3.7, 200.3])
def test_ratios_of_few_bits(ratio: float) -> None:
    found = small_ratio(ratio)
    (b,), (c,) = found.multiplier, found.shift
    assert 1 <= b < 512 and abs(Fraction(b, 2**c) / Fraction(ratio) - 1) <= Fraction(1, 500)
    assert found.ratio == (Fraction(ratio),)
    if ratio == 0.5:
        assert (b, c) == (1, 1)


def test_pads_hold_the_zero_point() -> None:
    mod = quantized(network(), QuantOptions(zero_points=True))
    (pad,) = (b.value for b in read_graph(mod).bindings if b.var.name == "pad0")
    assert float(pad.attrs.pad_value) == -128.0
    assert np.dtype(dtype_of(pad)) == np.int8
