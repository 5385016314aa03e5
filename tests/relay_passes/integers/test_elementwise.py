"""Plans of int8 tensors made element by element: functions, sums, differences, maxima."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from relay_passes.float_model.name_tensors import NameTensors
from relay_passes.graph import read_graph
from relay_passes.integers.elementwise import (
    PAIRS,
    Operand,
    function_steps,
    pair_steps,
    product_steps,
)
from relay_passes.integers.steps import run_steps
from relay_passes.numerics import quantize, round_half_up
from relay_passes.operators.functions import functions_of
from relay_passes.params import QuantParams
from tests.relay_passes.models import CNN

INPUTS = np.arange(-128, 128)
MEANINGS = {
    "add": np.add,
    "subtract": np.subtract,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def function(make: Any) -> Any:
    """Return conv -> a function -> conv, and the function."""
    net = CNN((1, 3, 4, 4))
    y = net.emit(make(net.conv(net.data, 3)))
    (found,) = functions_of(read_graph(NameTensors()(net.module(net.conv(y, 2))))).values()
    return found


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(PAIRS)),
    scales=st.tuples(*[st.floats(0.05, 2.0)] * 3),
    zeros=st.tuples(*[st.sampled_from([0, -128])] * 3),
    relu=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_pair(
    kind: str,
    scales: tuple[float, float, float],
    zeros: tuple[int, int, int],
    relu: bool,
    seed: int,
) -> None:
    """The result is within one step of the rounded one, whatever the scales."""
    first, second = (
        Operand(name, scale, zero, 127 - zero)
        for name, scale, zero in zip("xy", scales, zeros, strict=False)
    )
    params = QuantParams(scale=scales[2:], zero_point=zeros[2], signed=not zeros[2])
    limits = (params.zero_point if relu else params.qmin), params.qmax
    plan = pair_steps(kind, (first, second), params, limits)
    if plan is None:  # a result so fine has no multiplier: most of it is clipped
        assert max(scales[:2]) > 8 * scales[2]
        return
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(max(-127, t.zero), 128, (1, 1, 500)) for t in (first, second))
    reals = [(q - t.zero) * t.scale for q, t in ((x, first), (y, second))]
    meant = MEANINGS[kind](*reals)
    expected = quantize(np.maximum(meant, 0) if relu else meant, params).astype(np.int64)
    got = run_steps(plan, {"x": x, "y": y})
    assert np.abs(got - expected).max() <= 1


def test_an_operand_much_too_coarse_has_no_steps() -> None:
    params = QuantParams(scale=(2.0**-20,))
    near = Operand("x", 2.0**-20, 0, 127), Operand("y", 1.0, 0, 127)
    assert pair_steps("add", near, params, (-127, 127)) is None


@pytest.mark.parametrize("slopes", [[0.25, 0.5, 0.1], [0.01, 0.9, -0.3], [1.5, 1.25, 3.0]])
def test_a_slope_for_each_channel(slopes: list[float]) -> None:
    values = relax.const(np.asarray(slopes, np.float32))
    found = function(lambda x: relax.op.nn.prelu(x, values, axis=1))
    params = QuantParams(scale=(0.04,))
    plan = function_steps(found, Operand("x", 0.05, 0, 127), params)
    assert plan is not None
    x = np.broadcast_to(INPUTS, (1, 3, 256))
    reals = x * 0.05
    meant = np.where(reals > 0, reals, reals * np.asarray(slopes, np.float32)[:, np.newaxis])
    expected = np.clip(round_half_up(meant / 0.04), -127, 127)
    assert np.abs(run_steps(plan, {"x": x}) - expected).max() <= 1


def test_slopes_on_both_sides_of_one_are_left_to_the_host() -> None:
    """max(x, a x) and min(x, a x) at once."""
    values = relax.const(np.asarray([0.5, 1.5, 1.0], np.float32))
    found = function(lambda x: relax.op.nn.prelu(x, values, axis=1))
    assert function_steps(found, Operand("x", 0.05, 0, 127), QuantParams(scale=(0.05,))) is None


def test_factors_and_constants_of_channels() -> None:
    factors = relax.const(np.asarray([0.5, -1.0, 0.3], np.float32).reshape(3, 1, 1))
    found = function(lambda x: relax.op.multiply(x, factors))
    source = Operand("x", 0.1, -128, 255)
    plan = function_steps(found, source, QuantParams(scale=(0.2,)))
    assert plan is not None
    x = np.broadcast_to(INPUTS, (1, 3, 256))
    meant = (x + 128) * 0.1 * np.asarray([0.5, -1.0, 0.3])[:, np.newaxis] / 0.2
    expected = np.clip(round_half_up(meant), -127, 127)
    assert np.abs(run_steps(plan, {"x": x}) - expected).max() <= 1


def test_other_functions_of_channels_are_left_to_the_host() -> None:
    factors = relax.const(np.asarray([0.5, 2.0, 0.3], np.float32).reshape(3, 1, 1))
    net = CNN((1, 3, 4, 4))
    y = net.emit(relax.op.tanh(net.emit(relax.op.multiply(net.conv(net.data, 3), factors))))
    found = list(functions_of(read_graph(NameTensors()(net.module(net.conv(y, 2))))).values())
    last = max(found, key=lambda one: len(one.bindings))
    assert function_steps(last, Operand("x", 0.05, 0, 127), QuantParams(scale=(0.01,))) is None


@settings(max_examples=80, deadline=None)
@given(
    scales=st.tuples(*[st.floats(0.05, 2.0)] * 3),
    fitted=st.booleans(),
    zeros=st.tuples(st.sampled_from([0, -128]), st.sampled_from([0, -128, -127])),
    zero=st.sampled_from([0, -128]),
    seed=st.integers(0, 1000),
)
def test_any_product(
    scales: tuple[float, float, float],
    fitted: bool,
    zeros: tuple[int, int],
    zero: int,
    seed: int,
) -> None:
    """Exact where the scales fit; else the factor is rounded once more."""
    data, factor = (
        Operand(name, scale, z, 127 - z)
        for name, scale, z in zip("xs", scales, zeros, strict=False)
    )
    unit = data.scale * factor.scale * 2.0**5 if fitted else scales[2]
    params = QuantParams(scale=(unit,), zero_point=zero, signed=not zero)
    plan = product_steps(data, factor, params, (params.qmin, params.qmax))
    if plan is None:  # a step of the output is more than the largest factor times one of the data
        assert factor.reach * factor.scale * data.scale > 127 * unit and not fitted
        return
    rng = np.random.default_rng(seed)
    x = rng.integers(max(-127, data.zero), 128, (1, 3, 500))
    s = rng.integers(max(-127, factor.zero), 128, (1, 3, 1))
    reals = (x - data.zero) * data.scale, (s - factor.zero) * factor.scale
    got = run_steps(plan, {"x": x, "s": s})
    if fitted:
        assert len(plan.parts) == 1 and plan.shift == 5
        exact = ((x - data.zero) * (s - factor.zero) + 16 >> 5) + zero
        np.testing.assert_array_equal(got, np.clip(exact, params.qmin, params.qmax))
        return
    expected = quantize(reals[0] * reals[1], params).astype(np.int64)
    # Half a step of the converted factor, which has 64 to 127 or 127 to 254 of them.
    most = factor.reach * factor.scale / (127 if factor.zero else 63.5)
    assert np.abs(got - expected).max() <= 1 + 0.7 * most * np.abs(reals[0]).max() / unit


def test_a_product_of_other_orders_of_magnitude_has_no_steps() -> None:
    data, factor = Operand("x", 1.0, 0, 127), Operand("s", 1.0, 0, 127)
    for scale in (2.0**-20, 1.1 * 2.0**-20, 2.0**40, 1.1 * 2.0**40):
        assert product_steps(data, factor, QuantParams(scale=(scale,)), (-127, 127)) is None
