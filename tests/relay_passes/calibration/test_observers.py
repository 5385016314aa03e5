"""Observers: each finds the magnitude that its definition says."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.calibration.observers import (
    KLDivergence,
    MaxAbs,
    MeanSquare,
    MovingAverage,
    Observer,
    Percentile,
    candidates,
    second_moment,
    square_error,
)
from relay_passes.calibration.profiling import record
from relay_passes.params import TensorProfile
from vta_config.errors import CalibrationError

ALL = (
    MaxAbs(),
    MovingAverage(),
    Percentile(),
    MeanSquare(),
    MeanSquare(power_of_two=True),
    KLDivergence(),
    KLDivergence(power_of_two=True),
)


def profile_of(x: np.ndarray, sample_hi: tuple[float, ...] = (1.0,)) -> TensorProfile:
    values = record(x.astype(np.float32))
    return TensorProfile(
        name="x",
        lo=float(x.min()),
        hi=float(x.max()),
        limit=float(values[2]),
        histogram=values[3:].astype(np.int64),
        samples=len(sample_hi),
        sample_hi=np.asarray(sample_hi, np.float32),
    )


@pytest.fixture
def outliers() -> TensorProfile:
    x = np.maximum(np.random.default_rng(0).normal(0, 1, 200_000), 0)
    x[0] = 12.0
    return profile_of(x)


def test_max_and_moving_average() -> None:
    profile = profile_of(np.asarray([-3.0, 2.0]), (1.0, 2.0, 4.0))
    assert MaxAbs()(profile, 127) == 3.0
    assert MovingAverage(momentum=0.5)(profile, 127) == 2.75
    assert MovingAverage(momentum=0.0)(profile, 127) == 4.0


def test_percentile_counts_what_is_not_zero() -> None:
    x = np.concatenate([np.zeros(900), np.linspace(0.01, 1.0, 100)])
    profile = profile_of(x)
    assert Percentile(percent=50.0)(profile, 127) == pytest.approx(0.5, abs=0.02)
    assert Percentile(percent=100.0)(profile, 127) == 1.0


def test_square_error_is_that_of_the_values() -> None:
    x = np.random.default_rng(1).normal(0, 1, 100_000)
    profile = profile_of(x)
    for scale in (0.1, 0.02):
        error = np.square(x - scale * np.clip(np.floor(x / scale + 0.5), -127, 127)).mean()
        assert square_error(profile, scale, 127) == pytest.approx(error, rel=0.02)
    assert second_moment(profile) == pytest.approx(np.square(x).mean(), rel=0.01)


def test_mean_square_is_the_best_of_its_candidates(outliers: TensorProfile) -> None:
    for observer in (MeanSquare(), MeanSquare(power_of_two=True)):
        best = observer(outliers, 127)
        tried = candidates(outliers, 127, power_of_two=observer.power_of_two)
        assert best in tried
        errors = [square_error(outliers, m / 127, 127) for m in tried]
        assert square_error(outliers, best / 127, 127) == min(errors)
    assert np.log2(MeanSquare(power_of_two=True)(outliers, 127) / 127) % 1 == 0


@pytest.mark.parametrize("observer", [Percentile(percent=99.9), MeanSquare(), KLDivergence()])
def test_rare_outliers_are_clipped(observer: Observer, outliers: TensorProfile) -> None:
    assert 2.0 < observer(outliers, 127) < 10.0


@pytest.mark.parametrize("observer", ALL)
def test_a_tensor_of_zeros(observer: Observer) -> None:
    assert observer(profile_of(np.zeros(10), (0.0,)), 127) == 0.0


def test_options_in_range() -> None:
    with pytest.raises(
        CalibrationError, match=r"MovingAverage\.momentum: must be in \[0, 1\), got"
    ):
        MovingAverage(momentum=1.0)
    with pytest.raises(
        CalibrationError, match=r"Percentile\.percent: must be in \(0, 100\], got 0"
    ):
        Percentile(percent=0.0)
