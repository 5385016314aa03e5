"""Moments of groups: those of each group alone, as if it were a layer of its own."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.calibration.group_moments import GroupMoments, GroupSum
from relay_passes.calibration.moments import collect_moments, reordered_moments, windows
from relay_passes.float_model.channels import input_orders, map_channels
from relay_passes.float_model.permute_channels import PermuteChannels
from relay_passes.quantize_model import prepare
from tests.relay_passes.models import CNN, images


@pytest.mark.parametrize(("channels", "groups"), [(6, 3), (3, 3), (6, 1)])
def test_moments_of_each_group(channels: int, groups: int) -> None:
    net = CNN()
    mod = prepare(net.module(net.head(net.relu(net.conv(net.data, channels, groups=groups)))))
    data = images(4)
    found = collect_moments(mod, data, places=10_000)["conv0.acc"]
    assert isinstance(found, GroupMoments) == (groups > 1)
    columns = windows(np.concatenate(data), (1, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    assert found.samples == columns.shape[1]
    assert found.covariance is not None
    parts = columns.reshape(groups, -1, columns.shape[1])
    mean, covariance = (x.reshape(groups, *x.shape[-k:]) for x, k in
                        ((found.mean, 1), (found.covariance, 2)))  # fmt: skip
    for group, part in enumerate(parts):
        np.testing.assert_allclose(mean[group], part.mean(axis=1), atol=1e-5)
        np.testing.assert_allclose(covariance[group], np.cov(part, bias=True), atol=1e-4)
    rows = np.random.default_rng(0).normal(0, 1, (channels, parts.shape[1]))
    each = [r @ m for r, m in zip(rows, np.repeat(mean, channels // groups, 0), strict=True)]
    np.testing.assert_allclose(found.outputs(rows), each, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_values_whose_squares_leave_float32(scale: float) -> None:
    x = (np.random.default_rng(0).normal(1, 1, (6, 500)) * scale).astype(np.float32)
    total = GroupSum(2, 3)
    total.add(x[:, :100])
    total.add(x[:, 100:])
    found = total.moments()
    np.testing.assert_allclose(found.mean.reshape(-1), x.mean(axis=1), rtol=1e-4)
    for group in range(2):
        expected = np.cov(x[3 * group : 3 * group + 3].astype(np.float64) / found.unit, bias=True)
        np.testing.assert_allclose(found.covariance[group], expected, rtol=1e-3, atol=1e-5)
    assert found.mean_variance == pytest.approx(float(found.variances.mean()))
    assert found.has_covariance


def test_moments_of_depthwise_channels_in_another_order() -> None:
    net = CNN()
    inner = net.relu(net.conv(net.relu(net.conv(net.data, 12)), 12, groups=12))
    mod, data = prepare(net.module(net.head(inner))), images(3)
    groups, maps = PermuteChannels(block=4).maps(mod)
    found = reordered_moments(collect_moments(mod, data), input_orders(mod, groups, maps))
    expected = collect_moments(map_channels(mod, groups, maps), data)
    assert any(isinstance(own, GroupMoments) for own in expected.values())
    for name, own in expected.items():
        np.testing.assert_allclose(found[name].mean, own.mean, atol=1e-4)
        np.testing.assert_allclose(found[name].variances, own.variances, atol=1e-4)
