"""Observers and scale choosers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.calibration.observers import MaxAbs
from relay_passes.calibration.profiling import profile
from relay_passes.graph import constant, op_name, read_graph
from relay_passes.numerics import exact_log2
from relay_passes.quantize_model import prepare
from relay_passes.scales.bit_widths import UniformWidths, Widths
from relay_passes.scales.layer_bits import precision_of
from relay_passes.scales.power_of_two import ProfiledScales
from relay_passes.scales.single_scale import SingleScale
from tests.relay_passes.models import CNN, images
from vta_config.errors import CalibrationError


def test_max_abs(profiles: Any) -> None:
    data = profiles["data"]
    assert MaxAbs()(data, 127) == max(-data.lo, data.hi)


def test_scales_are_the_smallest_powers_of_two(net: Any, profiles: Any) -> None:
    scales = ProfiledScales()(net, profiles)
    for name in ("data", "conv0", "conv0.relu", "conv2.add", "conv2.add.relu"):
        (scale,) = scales.tensors[name].scale
        assert exact_log2(scale) is not None
        assert scale * 127 >= profiles[name].max_abs > scale * 127 / 2
    assert scales.tensors["data"].signed and not scales.tensors["conv0.relu"].signed


def test_moved_values_keep_their_scale(net: Any, profiles: Any) -> None:
    tensors = ProfiledScales()(net, profiles).tensors
    assert tensors["maxpool0"] == tensors["conv0.relu"]
    assert tensors["avgpool0.flat"] == tensors["avgpool0"]


@pytest.mark.parametrize("chooser", [ProfiledScales(), SingleScale()])
def test_average_scale_is_absorbed_by_the_next_weight(
    chooser: Any, net: Any, profiles: Any
) -> None:
    scales = chooser(net, profiles)
    (source,) = scales.tensors[_pool_source(net)].scale
    (pooled,) = scales.tensors["avgpool0"].scale
    shift = exact_log2(pooled * 9 / source)
    assert shift is not None and shift >= 0  # 3 x 3 values
    assert exact_log2(pooled) is None
    (weight,) = scales.weights["dense0.acc"].scale
    assert exact_log2(weight * pooled) is not None


def _pool_source(mod: Any) -> str:
    (call,) = (b.value for b in read_graph(mod).bindings if op_name(b.value) == "mean")
    return str(call.args[0].name)


def test_weight_scales(net: Any, profiles: Any) -> None:
    weights = {
        b.var.name: constant(b.value.args[1])
        for b in read_graph(net).bindings
        if op_name(b.value) == "nn.conv2d"
    }
    for granularity, count in (("tensor", 1), ("block", 2), ("channel", 16)):
        chooser = ProfiledScales(weight_granularity=granularity, block=8)  # type: ignore[arg-type]
        params = chooser(net, profiles).weights["conv1.acc"]
        assert len(params.scale) == count and params.granularity == granularity
        peaks = np.abs(weights["conv1.acc"]).reshape(count, -1).max(axis=1)
        for scale, peak in zip(params.scale, peaks, strict=True):
            assert scale * 127 >= peak > scale * 127 / 2


def test_four_bits(net: Any, profiles: Any) -> None:
    precision = precision_of(net, UniformWidths(inner=Widths(weight_bits=4)))
    scales = ProfiledScales()(net, profiles, precision)
    assert {p.qmax for p in scales.weights.values()} == {7}
    assert {p.qmax for p in scales.tensors.values()} == {127}


def test_unprofiled_tensor(net: Any, profiles: Any) -> None:
    rest = {name: p for name, p in profiles.items() if name != "conv1"}
    with pytest.raises(CalibrationError, match="conv1: must have been profiled; profile the gra"):
        ProfiledScales()(net, rest)


def test_zeros_take_scale_one() -> None:
    small = CNN()
    x = small.emit(relax.op.multiply(small.data, relax.const(np.float32(0))))
    mod = prepare(small.module(small.relu(x)))
    scales = ProfiledScales()(mod, profile(mod, images(1)))
    assert all(p.scale == (1.0,) for n, p in scales.tensors.items() if n != "data")
