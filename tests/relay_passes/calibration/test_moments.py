"""Moments: against all windows of all images."""

from __future__ import annotations

import io
import tempfile

import numpy as np
import pytest

from relay_passes.calibration.moments import (
    Moments,
    collect_moments,
    reordered_moments,
    windows,
)
from relay_passes.float_model.channels import input_orders, map_channels
from relay_passes.float_model.permute_channels import PermuteChannels
from relay_passes.host.run import conv2d
from relay_passes.params import QuantParams
from relay_passes.quantize_model import prepare
from relay_passes.rounding.second_order import SecondOrderRounder
from tests.relay_passes.models import CNN, images, residual_net
from vta_config.errors import CalibrationError


def test_windows_are_what_a_convolution_multiplies() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (2, 3, 9, 8)).astype(np.float32)
    weight = rng.normal(0, 1, (4, 3, 3, 2)).astype(np.float32)
    geometry = {"stride": (2, 1), "padding": (1, 0, 2, 1), "dilation": (1, 2)}
    expected = conv2d(x, weight, **geometry)
    columns = windows(x, weight.shape, *geometry.values())
    found = weight.reshape(4, -1) @ columns
    n, o, h, w = expected.shape
    np.testing.assert_allclose(
        found.reshape(o, n, h, w).transpose(1, 0, 2, 3), expected, rtol=1e-4, atol=1e-5
    )
    some = np.asarray([3, 7, 40])
    np.testing.assert_array_equal(
        windows(x, weight.shape, *geometry.values(), some), columns[:, some]
    )


def test_moments_of_all_pixels() -> None:
    net = CNN()
    mod = prepare(net.module(net.head(net.relu(net.conv(net.data, 5, strides=(2, 2))))))
    data = images(4)
    moments = collect_moments(mod, data, places=10_000)
    columns = windows(np.concatenate(data), (5, 3, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1))
    found = moments["conv0.acc"]
    assert found.samples == columns.shape[1]
    np.testing.assert_allclose(found.mean, columns.mean(axis=1), atol=1e-5)
    assert found.covariance is not None
    np.testing.assert_allclose(found.covariance, np.cov(columns, bias=True), atol=1e-4)
    assert moments["dense0.acc"].samples == 4 and moments["dense0.acc"].mean.shape == (5,)


def test_counts_images_and_needs_one() -> None:
    mod = prepare(residual_net())
    seen: list[int] = []
    collect_moments(mod, images(2), progress=seen.append)
    assert seen == [1, 2]
    with pytest.raises(CalibrationError, match="calibration: must have at least one image, got 0"):
        collect_moments(mod, [])


def test_some_layers_only() -> None:
    mod, data = prepare(residual_net()), images(2)
    whole = collect_moments(mod, data)
    name = list(whole)[2]
    some = collect_moments(mod, data, layers={name})
    assert list(some) == [name]
    np.testing.assert_array_equal(some[name].mean, whole[name].mean)


def test_wide_layers_have_no_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay_passes.calibration.moments.MOST_VALUES", 5 * 3 * 3)
    net = CNN()
    x = net.relu(net.conv(net.relu(net.conv(net.data, 5)), 6))
    found = collect_moments(prepare(net.module(net.head(net.conv(x, 4)))), images(2))
    assert [m.covariance is None for m in found.values()] == [False, False, True, False]
    narrow, wide = found["conv1.acc"], found["conv2.acc"]
    assert narrow.mean.shape == (45,) and wide.mean.shape == (54,)
    rows = np.ones((4, 54), np.float32)
    q = SecondOrderRounder(moments=found)("conv2.acc", rows, QuantParams(scale=(0.5,), bits=8))
    assert (q == 2).all()


def test_bands_groups_and_files_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    mod, data = prepare(residual_net()), images(3)
    whole = {
        name: (m.mean, m.covariance, m.mean_variance)
        for name, m in collect_moments(mod, iter(data)).items()
    }
    monkeypatch.setattr("relay_passes.calibration.moments._MOST_BYTES", 1)  # a pass for each layer
    monkeypatch.setattr("relay_passes.calibration.moments._BAND", 7)
    with tempfile.TemporaryFile() as file:
        found = collect_moments(mod, data, file=file)
        assert list(found) == list(whole)
        for name, (mean, covariance, variance) in whole.items():
            np.testing.assert_array_equal(found[name].mean, mean)
            np.testing.assert_allclose(found[name].covariance, covariance, rtol=1e-5, atol=1e-6)
            assert found[name].mean_variance == pytest.approx(variance)
        assert file.seek(0, io.SEEK_END) > 0


@pytest.mark.parametrize("factor", [1e-30, 1e25])
def test_squares_that_float32_does_not_hold(factor: float) -> None:
    net = CNN()
    mod = prepare(net.module(net.conv(net.data, 4, bias=False)))
    usual = collect_moments(mod, images(2))["conv0"]
    found = collect_moments(mod, [x * np.float32(factor) for x in images(2)])["conv0"]
    assert usual.unit == 1.0 and np.log2(found.unit) % 1 == 0
    assert found.covariance is not None and usual.covariance is not None
    relative = found.unit / factor
    np.testing.assert_allclose(found.covariance * relative**2, usual.covariance, atol=1e-5)
    np.testing.assert_allclose(found.mean / factor, usual.mean, rtol=1e-4)


def test_moments_of_channels_in_another_order() -> None:
    mod, data = prepare(residual_net()), images(3)
    order = PermuteChannels(block=4)
    groups, maps = order.maps(mod)
    found = reordered_moments(collect_moments(mod, data), input_orders(mod, groups, maps))
    expected = collect_moments(map_channels(mod, groups, maps), data)
    assert list(found) == list(expected) and maps
    for name, own in expected.items():
        taken = found[name]
        assert isinstance(own, Moments) and isinstance(taken, Moments)
        assert own.covariance is not None and taken.covariance is not None
        np.testing.assert_allclose(taken.mean, own.mean, atol=1e-4)
        np.testing.assert_allclose(taken.covariance, own.covariance, atol=1e-3)
        np.testing.assert_array_equal(taken.variances, np.diagonal(taken.covariance))
