from __future__ import annotations

from typing import Any

import pytest
from tvm import relax

from relay_passes.quantize_model import prepare
from relay_passes.scales.accumulators import AccumulatorEnd, fused_ends, paired_layers
from tests.relay_passes.models import CNN, residual_net


@pytest.fixture(scope="module")
def net() -> Any:
    return prepare(residual_net())


def test_sinks_follow_fusion(net: Any) -> None:
    assert fused_ends(net) == {
        "conv0.acc": AccumulatorEnd(output="conv0.relu"),
        "conv1.acc": AccumulatorEnd(output="conv1.relu"),
        "conv2.acc": AccumulatorEnd(output="conv2.add.relu", skip="conv3"),
        "conv3.acc": AccumulatorEnd(output="conv3"),
        "conv4.acc": AccumulatorEnd(output="conv4.relu"),
        "conv5.acc": AccumulatorEnd(output="conv2.add.relu.add.relu", skip="conv2.add.relu"),
        "dense0.acc": AccumulatorEnd(output=""),
    }


def test_sinks_of_a_pair(net: Any) -> None:
    pairs = paired_layers(net)
    assert pairs == {"conv2.add": ("conv2.acc", "conv3.acc")}
    ends = fused_ends(net, pairs)
    assert ends["conv2.acc"] == AccumulatorEnd(output="conv2.add.relu", partner="conv3.acc")
    assert ends["conv3.acc"] == AccumulatorEnd(output="conv2.add.relu", partner="conv2.acc")


@pytest.mark.parametrize("reason", ["read twice", "groups", "relu between", "a tensor"])
def test_what_is_no_pair(reason: str) -> None:
    net = CNN()
    left, x = net.conv(net.data, 6), net.conv(net.data, 6)
    right = net.conv(x, 6, groups=2 if reason == "groups" else 1)
    if reason == "relu between":
        right = net.relu(right)
    total = net.add(left, x if reason == "a tensor" else right)
    kept = (right,) if reason in ("read twice", "a tensor") else ()
    assert not paired_layers(prepare(net.module(total, *kept)))


def test_a_constant_that_is_no_bias_ends_an_accumulator() -> None:
    net = CNN()
    x = net.emit(relax.op.add(net.conv(net.data, 4), net.const(1, 4, 12, 12)))
    mod = prepare(net.module(net.head(net.relu(x))))
    assert fused_ends(mod)["conv0.acc"] == AccumulatorEnd(output="conv0")
    assert not paired_layers(mod)


def test_a_doubled_accumulator_ends_before_the_sum() -> None:
    net = CNN()
    x = net.conv(net.data, 4)
    mod = prepare(net.module(net.conv(net.relu(net.add(x, x)), 3)))
    assert fused_ends(mod)["conv0.acc"] == AccumulatorEnd(output="conv0")


@pytest.mark.parametrize(
    ("limits", "output"),
    [((0.0, 6.0), "conv0.clip"), ((-1.0, 1.0), "conv0"), ((0.5, 1.0), "conv0")],
)
def test_only_a_clip_that_integers_express_ends_an_accumulator(
    limits: tuple[float, float], output: str
) -> None:
    net = CNN()
    mod = prepare(net.module(net.head(net.emit(relax.op.clip(net.conv(net.data, 4), *limits)))))
    assert fused_ends(mod)["conv0.acc"] == AccumulatorEnd(output=output)
