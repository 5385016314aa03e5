"""Equalized layers: equal results, like ranges on both sides of a channel, better integers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes import numerics
from relay_passes.calibration.profiling import profile
from relay_passes.float_model.channels import (
    ChannelMap,
    channel_groups,
    layer_weights,
    map_channels,
)
from relay_passes.float_model.equalize_layers import EqualizeLayers
from relay_passes.host.run import HostModule
from relay_passes.quant_options import QuantOptions
from relay_passes.quantize_model import prepare, quantize_model
from tests.relay_passes.expected import assert_becomes
from tests.relay_passes.models import CNN, images, residual_net
from vta_config.errors import CalibrationError


@pytest.fixture(scope="module")
def uneven() -> Any:
    """The residual network with its channels scaled by factors from 1/32 to 32."""
    mod = prepare(residual_net())
    groups, rng = channel_groups(mod), np.random.default_rng(0)
    maps = tuple(
        ChannelMap(order=np.arange(g.channels), factor=2.0 ** rng.uniform(-5, 5, g.channels))
        for g in groups
    )
    return map_channels(mod, groups, maps)


def run(mod: Any, x: Any) -> Any:
    return HostModule(mod, fast=True)(x)[0]


def peaks(weight: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return each channel's largest weight as a share of the layer's."""
    rows = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(axis=1)
    return np.asarray(rows / rows.max())


def test_results_stay_equal(uneven: Any) -> None:
    equalized = EqualizeLayers()(uneven)
    for x in images(2):
        np.testing.assert_allclose(run(uneven, x), run(equalized, x), rtol=1e-3, atol=1e-3)


def test_channels_have_like_ranges_on_both_sides(uneven: Any) -> None:
    weights = layer_weights(EqualizeLayers(rounds=40)(uneven))
    for writer, reader in (("conv1.acc", "conv2.acc"), ("conv4.acc", "conv5.acc")):
        ratio = peaks(weights[writer], 0) / peaks(weights[reader], 1)
        np.testing.assert_allclose(ratio / np.exp(np.log(ratio).mean()), 1, rtol=1e-3)


def test_clips_and_dead_channels_stay_finite() -> None:
    net = CNN()
    x = net.emit(relax.op.clip(net.conv(net.data, 6), 0.0, 6.0))
    y = net.relu(net.conv(x, 5))
    mod = prepare(net.module(net.head(net.conv(y, 4))))
    groups = channel_groups(mod)
    assert [g.scalable for g in groups] == [False, True, True]
    dead = tuple(
        ChannelMap(order=np.arange(g.channels), factor=np.r_[1e-12, np.ones(g.channels - 1)])
        if g.scalable
        else ChannelMap(order=np.arange(g.channels), factor=np.ones(g.channels))
        for g in groups
    )
    mod = map_channels(mod, groups, dead)
    before, after = layer_weights(mod), layer_weights(EqualizeLayers()(mod))
    assert all(np.isfinite(w).all() for w in after.values())
    np.testing.assert_array_equal(before["conv0.acc"], after["conv0.acc"])
    assert not np.array_equal(before["conv1.acc"], after["conv1.acc"])


def test_integers_gain(uneven: Any) -> None:
    profiles, observe = profile(uneven, images(3)), partial(profile, images=images(3))
    plain = quantize_model(uneven, profiles)
    options = QuantOptions(passes=(EqualizeLayers(),))
    equalized = quantize_model(uneven, profiles, options, observe=observe)
    x = images(1)[0]
    errors = [numerics.sqnr_db(run(uneven, x), run(mod, x)) for mod in (plain, equalized)]
    assert errors[1] > errors[0] + 6


def test_profiles_of_other_values_are_not_used(uneven: Any) -> None:
    with pytest.raises(
        CalibrationError, match="must keep its images to profile rescaled channels again"
    ):
        quantize_model(uneven, profile(uneven, images(1)), QuantOptions(passes=(EqualizeLayers(),)))


def test_channels_scaled_by_the_root_of_their_shares() -> None:
    """Shares r = [1/16, 1] of the writer and r' = [1, 1/16] of the reader: f = [4, 1/4]."""

    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            with R.dataflow():
                conv0_acc = R.nn.conv2d(data, R.const(np.float32([1, 16]).reshape(2, 1, 1, 1)))
                conv0 = R.add(conv0_acc, R.const(np.float32([3, 8]).reshape(1, 2, 1, 1)))
                relu = R.nn.relu(conv0)
                conv1 = R.nn.conv2d(relu, R.const(np.float32([-16, 1]).reshape(1, 2, 1, 1)))
                R.output(conv1)
            return conv1

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            with R.dataflow():
                conv0_acc = R.nn.conv2d(data, R.const(np.float32([4, 4]).reshape(2, 1, 1, 1)))
                conv0 = R.add(conv0_acc, R.const(np.float32([12, 2]).reshape(1, 2, 1, 1)))
                relu = R.nn.relu(conv0)
                conv1 = R.nn.conv2d(relu, R.const(np.float32([-4, 4]).reshape(1, 2, 1, 1)))
                R.output(conv1)
            return conv1

    assert_becomes(EqualizeLayers(), Before, After)


def test_a_depthwise_layer_is_equalized_with_both_of_its_neighbours() -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 24, 1))
    x = net.relu(net.conv(x, 24, groups=24))
    mod = prepare(net.module(net.head(net.relu(net.conv(x, 8, 1)))))
    groups, rng = channel_groups(mod, "scaled"), np.random.default_rng(0)
    maps = tuple(
        ChannelMap(order=np.arange(g.channels), factor=2.0 ** rng.uniform(-5, 5, g.channels))
        for g in groups
    )
    uneven = map_channels(mod, groups, maps)
    equalized = EqualizeLayers(rounds=40)(uneven)
    for x in images(2):
        np.testing.assert_allclose(run(uneven, x), run(equalized, x), rtol=1e-3, atol=1e-3)
    before, after = layer_weights(uneven)["conv1.acc"], layer_weights(equalized)["conv1.acc"]
    assert peaks(before, 0).min() < 0.01 and peaks(after, 0).min() > 0.1
    for writer, reader, axis in (("conv0.acc", "conv1.acc", 0), ("conv1.acc", "conv2.acc", 1)):
        written, read = layer_weights(equalized)[writer], layer_weights(equalized)[reader]
        np.testing.assert_allclose(peaks(written, 0), peaks(read, axis), rtol=1e-2)
