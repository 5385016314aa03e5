"""Tensors that share integers, and the scales that choosers give them."""

from __future__ import annotations

from typing import Any

import pytest
from tvm import relax

from relay_passes.calibration.profiling import profile
from relay_passes.graph import read_graph
from relay_passes.quantize_model import prepare
from relay_passes.scales.block_scales import BlockScales
from relay_passes.scales.layer_bits import precision_of
from relay_passes.scales.power_of_two import ProfiledScales
from relay_passes.scales.single_scale import SingleScale
from relay_passes.scales.ties import ties_of
from tests.relay_passes.models import CNN, images, joined_net


def names(mod: Any) -> list[str]:
    return [str(b.var.name) for b in read_graph(mod).bindings]


def test_what_is_moved_or_joined_is_tied() -> None:
    mod = prepare(joined_net())
    ties = ties_of(read_graph(mod))
    first, pooled, large, other, both = (
        ties.roots[name]
        for name in ("conv0.relu", "maxpool0", "resize2d0", "conv1.relu", "concat0")
    )
    assert first == pooled == large == other == both
    assert ties.wholes("conv0.relu") == ("concat0",) and ties.is_joined("maxpool0")
    # The sum has a scale of its own.
    (total,) = (n for n in names(mod) if n.endswith(".add.relu"))
    assert ties.wholes(total) == (total,) and not ties.is_joined(total)


@pytest.mark.parametrize("chooser", [ProfiledScales(), BlockScales(), SingleScale()], ids=str)
@pytest.mark.parametrize("signed", [False, True])
def test_choosers_give_one_scale(chooser: Any, signed: bool) -> None:
    mod = prepare(joined_net(signed=signed))
    found = chooser(mod, profile(mod, images()), precision_of(mod, {}, zero_points=True))
    joined = ["conv0.relu", "maxpool0", "resize2d0", "conv1" if signed else "conv1.relu"]
    whole = found.tensors["concat0"]
    assert whole.zero_point == (0 if signed else -128)
    for name in joined:
        params = found.tensors[name]
        assert (params.scale, params.zero_point) == (whole.scale, whole.zero_point)


def test_added_channels_are_the_number_0() -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    padded = net.emit(relax.op.nn.pad(x, [0, 0, 4, 4, 0, 0, 0, 0]))
    wider = net.emit(relax.op.nn.pad(net.relu(net.conv(padded, 8)), [0] * 4 + [1] * 4))
    mod = prepare(net.module(net.head(net.conv(wider, 8))))
    assert precision_of(mod, {}, zero_points=True).zero_points == {"conv1.relu", "pad1"}
