"""Second-order rounding: smaller output errors; nearest where inputs are white."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.calibration.group_moments import GroupMoments
from relay_passes.calibration.moments import Moments
from relay_passes.numerics import quantize
from relay_passes.params import QuantParams
from relay_passes.rounding.second_order import SecondOrderRounder, round_groups, round_rows


def correlated(size: int, rank: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (size, rank)) @ rng.normal(0, 1, (rank, 4000))
    return np.cov(x + rng.normal(0, 0.3, x.shape), bias=True).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 8])
def test_output_error_is_smaller(bits: int) -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(0, 1, (6, 150)).astype(np.float32)
    covariance = correlated(150, 40)
    params = QuantParams(
        scale=tuple(np.abs(weight).max(1) / (2 ** (bits - 1) - 1)), bits=bits, granularity="channel"
    )
    moments = {"a": Moments(mean=np.zeros(150, np.float32), covariance=covariance, samples=9)}
    learned = SecondOrderRounder(moments=moments)("a", weight, params)
    nearest = quantize(weight, params)
    scale = params.scales(6)[:, np.newaxis]

    def error(q: np.ndarray) -> float:
        d = weight - scale * q
        return float(np.einsum("ok,kl,ol->", d, covariance, d))

    assert error(learned) < 0.4 * error(nearest)
    assert np.abs(learned).max() <= params.qmax and learned.dtype == np.int8


def moments_of(covariance: np.ndarray) -> Moments:
    return Moments(mean=np.zeros(len(covariance), np.float32), covariance=covariance, samples=9)


def test_equals_the_definition() -> None:
    """Column by column: q_k = round((w_k + sum of errors before * U) / s)."""
    rng = np.random.default_rng(2)
    weight = rng.normal(0, 1, (3, 9)).astype(np.float32)
    covariance = correlated(9, 3)
    order = np.argsort(-np.diag(covariance), kind="stable")
    matrix = covariance[np.ix_(order, order)].astype(np.float64) + 0.1 * np.eye(9)
    upper = np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1]
    upper = upper / np.diag(upper)
    expected = np.zeros((3, 9))
    for row in range(3):
        error = np.zeros(9)
        for k in range(9):
            exact = weight[row, order[k]] / 0.1
            expected[row, order[k]] = np.floor(exact + error[:k] @ upper[:k, k] + 0.5)
            error[k] = exact - expected[row, order[k]]
    found = round_rows(
        weight, np.full(3, 0.1, np.float32), moments_of(covariance), extra=0.1, qmax=127
    )
    np.testing.assert_array_equal(found, expected)


def test_white_inputs_and_unknown_layers_round_to_nearest() -> None:
    weight = np.random.default_rng(3).normal(0, 1, (4, 7)).astype(np.float32)
    params = QuantParams(scale=(0.05,))
    white = Moments(mean=np.zeros(7, np.float32), covariance=np.eye(7, dtype=np.float32), samples=9)
    rounder = SecondOrderRounder(moments={"dense": white})
    for name in ("dense", "other"):
        np.testing.assert_array_equal(rounder(name, weight, params), quantize(weight, params))


def test_inputs_that_are_always_zero() -> None:
    weight = np.ones((2, 3), np.float32)
    none = Moments(mean=np.zeros(3, np.float32), covariance=np.zeros((3, 3), np.float32), samples=9)
    rounder = SecondOrderRounder(moments={"a": none})
    np.testing.assert_array_equal(rounder("a", weight, QuantParams(scale=(0.5,))), 2 * weight)


def test_covariances_with_rounding_errors_are_damped_more() -> None:
    covariance = correlated(30, 40)
    covariance -= np.float32(1) * np.eye(30, dtype=np.float32)
    assert np.linalg.eigvalsh(covariance)[0] < -0.1
    weight = np.random.default_rng(3).normal(0, 1, (2, 30)).astype(np.float32)
    scale = np.full(2, 0.05, np.float32)
    q = round_rows(weight, scale, moments_of(covariance), extra=1e-3, qmax=127)
    assert np.abs(weight - 0.05 * q).max() < 1


def test_blocks_of_the_decomposition_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, (60, 200)) + rng.normal(0, 1, (1, 200))
    covariance = np.cov(x).astype(np.float32)
    weight, scale = rng.normal(0, 1, (8, 60)).astype(np.float32), np.full(8, 0.1, np.float32)
    moments = moments_of(covariance)
    whole = round_rows(weight, scale, moments, extra=0.01, qmax=127)
    monkeypatch.setattr("relay_passes.rounding.second_order._PANEL", 7)
    monkeypatch.setattr("relay_passes.calibration.moments._BAND", 11)
    moments = moments_of(covariance)
    np.testing.assert_array_equal(round_rows(weight, scale, moments, extra=0.01, qmax=127), whole)


def test_groups_are_rounded_like_layers_of_their_own() -> None:
    rng = np.random.default_rng(3)
    groups, size = 5, 9
    covariance = np.stack([correlated(size, k + 1) * 10.0**k for k in range(groups)])
    covariance[4] = 0.0  # a dead channel
    mean = rng.normal(0, 1, (groups, size)).astype(np.float32)
    moments = GroupMoments(mean=mean, covariance=covariance, samples=9)
    weight = rng.normal(0, 1, (2 * groups, size)).astype(np.float32)
    params = QuantParams(scale=tuple(np.abs(weight).max(1) / 7), bits=4, granularity="channel")
    rounder = SecondOrderRounder(moments={"a": moments}, noise={"a": 0.01})
    found = rounder("a", weight, params)
    for group in range(groups):
        rows = slice(2 * group, 2 * group + 2)
        alone = Moments(mean=mean[group], covariance=covariance[group], samples=9)
        each = SecondOrderRounder(moments={"a": alone}, noise={"a": 0.01})
        own = QuantParams(scale=params.scale[rows], bits=4, granularity="channel")
        np.testing.assert_array_equal(found[rows], each("a", weight[rows], own))
    assert not np.array_equal(found, quantize(weight, params))
    np.testing.assert_array_equal(
        SecondOrderRounder(moments={"a": moments}, dampings={"a": np.inf})("a", weight, params),
        quantize(weight, params),
    )


def test_covariances_of_groups_that_are_not_positive_definite() -> None:
    covariance = np.stack([np.full((3, 3), 2.0), np.diag([1.0, -0.5, 1.0])]).astype(np.float32)
    moments = GroupMoments(mean=np.zeros((2, 3), np.float32), covariance=covariance, samples=9)
    weight = np.asarray([[1.0, 0.5, 0.2], [0.3, -1.0, 0.6]], np.float32)
    scale = np.full(2, 1 / 7, np.float32)
    found = round_groups(weight, scale, moments, extra=np.zeros(2), qmax=7)
    assert np.abs(found - weight / scale[:, np.newaxis]).max() <= 2
