"""Which tensors are never negative: by what makes them, not by what was seen."""

from __future__ import annotations

import numpy as np
from tvm import relax

from relay_passes.quantize_model import prepare
from relay_passes.scales.bit_widths import Limits, UniformWidths, Widths
from relay_passes.scales.layer_bits import precision_of
from relay_passes.scales.signs import never_negative
from tests.relay_passes.models import CNN, residual_net


def test_a_residual_network() -> None:
    mod = prepare(residual_net())
    assert never_negative(mod) == {
        "conv0.relu",
        "maxpool0",
        "conv1.relu",
        "conv2.add.relu",
        "conv4.relu",
        "conv2.add.relu.add.relu",
        "avgpool0",
        "avgpool0.flat",
    }


def test_operators_one_by_one() -> None:
    net = CNN((1, 4, 4, 4))
    x = net.conv(net.data, 4)
    relu, low = net.relu(x), net.emit(relax.op.clip(x, -1.0, 1.0))
    six, above = net.emit(relax.op.clip(x, 0.0, 6.0)), net.emit(relax.op.clip(x, 0.5, 2.0))
    both, mixed = net.add(relu, six), net.add(relu, low)
    bias = [relax.const(np.full((1, 4, 1, 1), v, np.float32)) for v in (0.5, -0.5)]
    raised, lowered = (net.add(relu, b) for b in bias)
    moved = net.emit(relax.op.permute_dims(six, (0, 1, 3, 2)))
    mean, pool = (
        net.emit(relax.op.mean(relu, axis=[2, 3], keepdims=True)),
        net.emit(relax.op.nn.avg_pool2d(above, (2, 2))),
    )
    scaled, turned = net.emit(relax.op.multiply(six, mean)), net.emit(relax.op.multiply(low, mean))
    sixth = net.emit(relax.op.divide(six, relax.const(np.float32(6.0))))
    mod = net.module(both, mixed, raised, lowered, moved, mean, pool, low, scaled, turned, sixth)
    found = never_negative(mod)
    yes = (relu, six, above, both, raised, moved, mean, pool, scaled, sixth)
    assert found == {str(var.name) for var in yes}
    assert not {str(var.name) for var in (net.data, x, low, mixed, lowered, turned)} & found


def test_they_have_zero_points_where_these_are_wanted() -> None:
    net = prepare(residual_net())
    assert not precision_of(net, {}).zero_points
    rule = UniformWidths(inner=Widths(activation_bits=4), ends=Widths())
    precision = precision_of(net, rule, Limits(activation=119), zero_points=True)
    assert precision.zero_points == never_negative(net)
    params = {
        n: precision.tensor(n, 1.0) for n in ("data", "conv1.relu", "conv2.add.relu.add.relu")
    }
    found = {n: (p.bits, p.zero_point, p.qmin, p.qmax) for n, p in params.items()}
    assert found == {
        "data": (8, 0, -119, 119),
        "conv1.relu": (4, -8, -8, 7),
        "conv2.add.relu.add.relu": (8, -128, -128, 119),  # which only the average reads
    }
    assert [precision.tensor_levels(n) for n in params] == [119, 15, 247]


def test_an_input_that_is_taken_to_be_never_negative_has_one_too() -> None:
    net = CNN()
    moved = net.emit(relax.op.nn.max_pool2d(net.data, (2, 2), (2, 2)))
    mod = net.module(net.emit(net.conv(moved, 4)))
    data, pooled = (str(v.name) for v in (net.data, moved))
    assert never_negative(mod, {data, "other"}) == {data, pooled} and not never_negative(mod)
    assert precision_of(mod, {}, zero_points=True, positive_inputs={data}).zero_points == {
        data,
        pooled,
    }
    assert not precision_of(mod, {}, positive_inputs={data}).zero_points
