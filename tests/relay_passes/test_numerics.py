"""Every equation of numerics.py against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_passes import numerics
from relay_passes.params import QuantParams
from vta_config.errors import CapacityError

finite = st.floats(-1e6, 1e6)
positive = st.floats(1e-6, 1e6)


def half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


@pytest.mark.parametrize(
    ("x", "rounded"), [(0.5, 1), (-0.5, 0), (1.5, 2), (-1.5, -1), (2.5, 3), (-2.5, -2)]
)
def test_half_up_at_halves(x: float, rounded: int) -> None:
    assert numerics.round_half_up(x) == rounded


@given(finite)
def test_round_half_up(x: float) -> None:
    assert int(numerics.round_half_up(x)) == half_up(Fraction(x))


def test_round_half_up_just_below_a_half() -> None:
    assert numerics.round_half_up(0.49999999999999994) == 0


@given(finite, st.integers(-20, 20), st.integers(2, 8), st.booleans())
def test_quantize(x: float, exponent: int, bits: int, signed: bool) -> None:
    params = QuantParams(scale=(2.0**exponent,), bits=bits, signed=signed)
    expected = half_up(Fraction(x) / Fraction(2) ** exponent)
    q = int(numerics.quantize(x, params))
    assert q == max(params.qmin, min(params.qmax, expected))
    assert params.qmin >= -params.qmax


@given(finite)
def test_dequantize_is_near(x: float) -> None:
    params = QuantParams(scale=(2.0**13,))
    error = abs(float(numerics.dequantize(numerics.quantize(x, params), params)) - x)
    assert error <= 2.0**12


def test_quantize_with_a_zero_point() -> None:
    params = QuantParams(scale=(0.5,), signed=False, zero_point=-128)
    q = numerics.quantize([-3.0, 0.0, 0.3, 127.4, 500.0], params)
    assert q.tolist() == [-128, -128, -127, 127, 127]
    assert numerics.dequantize(q, params).tolist() == [0.0, 0.0, 0.5, 127.5, 127.5]


def test_quantize_per_channel_and_block() -> None:
    x = np.full((4, 2), 10.0)
    channel = QuantParams(scale=(1.0, 2.0, 5.0, 10.0), granularity="channel")
    assert numerics.quantize(x, channel)[:, 0].tolist() == [10, 5, 2, 1]
    block = QuantParams(scale=(1.0, 10.0), granularity="block")
    assert numerics.quantize(x, block, block=2)[:, 0].tolist() == [10, 10, 1, 1]
    back = numerics.dequantize(numerics.quantize(x, channel), channel)
    assert back[:, 1].tolist() == [10, 10, 10, 10]


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-8, 31))
def test_shift_right_round(acc: int, n: int) -> None:
    expected = half_up(Fraction(acc) / Fraction(2) ** n)
    assert int(numerics.shift_right_round(acc, n)) == expected


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 31))
def test_requantize(acc: int, n: int) -> None:
    expected = max(-127, min(127, half_up(Fraction(acc, 2**n))))
    assert int(numerics.requantize(acc, n, -127, 127)) == expected


@given(positive, st.integers(2, 8))
def test_power_of_two_scale_is_the_smallest(max_abs: float, bits: int) -> None:
    qmax = 2 ** (bits - 1) - 1
    scale = numerics.scale_for(max_abs, qmax)
    assert math.frexp(scale)[0] == 0.5
    assert Fraction(scale) * qmax >= Fraction(max_abs)
    assert Fraction(scale) / 2 * qmax < Fraction(max_abs)


def test_scale_of_zeros_and_of_max_abs() -> None:
    assert numerics.scale_for(0.0, 127) == 1.0
    assert numerics.scale_for(127.0, 127) == 1.0
    assert numerics.scale_for(254.0, 127, power_of_two=False) == 2.0


@given(st.integers(-40, 40))
def test_exact_log2(k: int) -> None:
    assert numerics.exact_log2(2.0**k) == k
    assert numerics.exact_log2(2.0**k / 49 * 49) == k
    assert numerics.exact_log2(float(np.float32(2.0**k / 49)) * 49) is None  # float64 only
    assert numerics.exact_log2(2.0**k * 1.01) is None


def test_exact_log2_of_nonsense() -> None:
    assert numerics.exact_log2(0.0) is None
    assert numerics.exact_log2(float("inf")) is None


def test_output_bias_is_no_larger_than_the_sum_can_take_back() -> None:
    bias, scale = np.asarray([-1e12, 0.75, 1e12]), np.full(3, 0.25)
    bound, unit = np.asarray([10.0, 10.0, 1e6]), np.asarray([4.0, 4.0, 4096.0])
    found = numerics.output_bias("conv", bias, scale, bound, unit)
    np.testing.assert_array_equal(found, [-(1 << 18), 3, 1_000_000 + 129 * 4096])
    found = numerics.output_bias("conv", bias, scale, bound, unit, -128)
    np.testing.assert_array_equal(found, [-(1 << 18), 3, 1_000_000 + 257 * 4096])
    assert numerics.sum_bound(bound, np.asarray([-3, 5, 0])).tolist() == [13, 15, 1e6]


@given(st.floats(-1e3, 1e3), st.integers(-16, 4))
def test_quantize_bias(bias: float, exponent: int) -> None:
    q = numerics.quantize_bias("conv", [bias], 2.0**exponent)
    assert int(q[0]) == half_up(Fraction(bias) / Fraction(2) ** exponent)


def test_quantize_bias_must_fit() -> None:
    with pytest.raises(
        CapacityError, match=r"conv1\.bias: must fit int32 at the accumulator's scale, got 1e\+10; "
    ):
        numerics.quantize_bias("conv1", [1e10], 1.0)


@given(st.integers(0, 2**32 - 1))
def test_accumulator_bound_is_sound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-128, 128, (3, 2, 2, 2)).astype(np.int8)
    x = rng.integers(-127, 128, (2, 2, 2))
    bound = numerics.accumulator_bound(weight, 127)
    sums = np.abs(np.cumsum((weight * x[None]).reshape(3, -1), axis=1)).max(axis=1)
    assert (sums <= bound).all()
    worst = np.sign(weight.astype(int)) * 127
    assert ((weight.astype(int) * worst).reshape(3, -1).sum(axis=1) == bound).all()


def test_check_accumulator() -> None:
    numerics.check_accumulator("conv1", np.asarray([0, 2**31 - 1]))
    with pytest.raises(
        CapacityError,
        match=r"conv1: must keep every accumulator below 2\^31, got a bound of 2147483648 in "
        r"channel 1; use larger scales or fewer bits",
    ):
        numerics.check_accumulator("conv1", np.asarray([0, 2**31]))


def test_sqnr() -> None:
    assert numerics.sqnr_db([3.0, 4.0], [3.0, 4.0]) == float("inf")
    assert numerics.sqnr_db([10.0, 0.0], [9.0, 0.0]) == pytest.approx(20.0)
    assert numerics.sqnr_db([0.0], [1.0]) == float("-inf")
    assert numerics.decibels(1e-300, 1e300) == pytest.approx(-6000.0)  # whose ratio is no float
    assert [numerics.limited_db(x) for x in (float("inf"), 12.5, -6000.0)] == [300.0, 12.5, -300.0]
    assert numerics.centred([[9, 11], [-21, -19]]).tolist() == [[-1, 1], [-1, 1]]
