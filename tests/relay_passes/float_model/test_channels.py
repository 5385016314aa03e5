"""Groups of channels, and what reordering or scaling them leaves equal."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from relay_passes.float_model.channels import (
    ChannelMap,
    channel_groups,
    layer_weights,
    map_channels,
)
from relay_passes.host.run import HostModule
from relay_passes.quantize_model import prepare
from tests.relay_passes.models import CNN, images, residual_net


def test_groups_of_a_residual_network() -> None:
    groups = channel_groups(prepare(residual_net()))
    assert [(g.channels, g.writers, g.readers) for g in groups] == [
        (8, ("conv0.acc",), ("conv1.acc", "conv3.acc")),
        (16, ("conv1.acc",), ("conv2.acc",)),
        (16, ("conv2.acc", "conv3.acc", "conv5.acc"), ("conv4.acc", "dense0.acc")),
        (16, ("conv4.acc",), ("conv5.acc",)),
    ]
    assert all(g.scalable for g in groups)


def test_inputs_results_and_unknown_operators_fix_channels() -> None:
    net = CNN()
    x = net.emit(relax.op.sigmoid(net.conv(net.data, 6)))
    y = net.emit(relax.op.clip(net.conv(x, 5), 0.0, 6.0))
    y = net.conv(y, 4, 1)
    mod = prepare(net.module(net.conv(y, 4, groups=2)))
    (group,) = channel_groups(mod)
    assert group.writers == ("conv1.acc",) and not group.scalable


def test_maps_keep_the_results() -> None:
    mod = prepare(residual_net())
    groups = channel_groups(mod)
    rng = np.random.default_rng(0)
    maps = tuple(
        ChannelMap(order=rng.permutation(g.channels), factor=rng.uniform(0.5, 2, g.channels))
        for g in groups
    )
    changed = map_channels(mod, groups, maps)
    before, after = layer_weights(mod), layer_weights(changed)
    assert all(not np.array_equal(before[n], after[n]) for n in before)
    for x in images(2):
        np.testing.assert_allclose(_run(mod, x), _run(changed, x), rtol=1e-4, atol=1e-4)


def _run(mod: Any, x: Any) -> Any:
    return HostModule(mod, fast=True)(x)[0]


def _depthwise_net() -> Any:
    """Return a separable block between two convolutions, a depthwise layer at the input before."""
    net = CNN()
    x = net.relu(net.conv(net.data, 3, groups=3))
    x = net.relu(net.conv(x, 24, 1))
    x = net.relu(net.conv(x, 24, groups=24))
    return prepare(net.module(net.head(net.relu(net.conv(x, 8, 1)))))


def test_a_depthwise_layer_is_inside_a_group_that_is_ordered() -> None:
    mod = _depthwise_net()
    groups = channel_groups(mod, "ordered")
    assert [(g.channels, g.writers, g.readers) for g in groups] == [
        (24, ("conv1.acc", "conv2.acc"), ("conv3.acc",)),
        (8, ("conv3.acc",), ("dense0.acc",)),
    ]
    rng = np.random.default_rng(0)
    maps = tuple(
        ChannelMap(order=rng.permutation(g.channels), factor=np.ones(g.channels)) for g in groups
    )
    changed = map_channels(mod, groups, maps)
    before, after = layer_weights(mod), layer_weights(changed)
    np.testing.assert_allclose(after["conv2.acc"], before["conv2.acc"][maps[0].order])
    for x in images(2):
        np.testing.assert_allclose(_run(mod, x), _run(changed, x), rtol=1e-4, atol=1e-4)


def test_a_depthwise_layer_is_between_groups_that_are_scaled() -> None:
    mod = _depthwise_net()
    groups = channel_groups(mod, "scaled")
    assert [(g.channels, g.writers, g.readers) for g in groups] == [
        (3, ("conv0.acc",), ("conv1.acc",)),
        (24, ("conv1.acc",), ("conv2.acc",)),
        (24, ("conv2.acc",), ("conv3.acc",)),
        (8, ("conv3.acc",), ("dense0.acc",)),
    ]
    rng = np.random.default_rng(0)
    maps = tuple(
        ChannelMap(order=np.arange(g.channels), factor=rng.uniform(0.5, 2, g.channels))
        for g in groups
    )
    changed = map_channels(mod, groups, maps)
    factor = maps[2].factor / maps[1].factor
    before, after = layer_weights(mod), layer_weights(changed)
    expected = before["conv2.acc"] * factor.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(after["conv2.acc"], expected, rtol=1e-5)
    for x in images(2):
        np.testing.assert_allclose(_run(mod, x), _run(changed, x), rtol=1e-4, atol=1e-4)


def test_depthwise_layers_are_fixed_unless_asked_for() -> None:
    groups = channel_groups(_depthwise_net())
    assert [g.writers for g in groups] == [("conv3.acc",)]
