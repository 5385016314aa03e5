"""Functions as hinges: within one step of the rounded function for all 256 inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_passes.integers.hinges import INPUTS, fit_function
from relay_passes.integers.steps import StepsPlan, run_steps
from relay_passes.numerics import round_half_up
from relay_passes.operators.post_ops import POST_OPS
from tests.relay_passes.integers.functions import FUNCTIONS, REACHES, Array
from vta_config.isa import MAX_IMM, MIN_IMM

SYMMETRIC = (-127, 127)


def steps_of(values: Array, limits: tuple[int, int] = SYMMETRIC) -> StepsPlan:
    found = fit_function(values, limits)
    assert found is not None
    return found.plan


def results(plan: StepsPlan) -> list[int]:
    return list(run_steps(plan, {"": INPUTS[np.newaxis]})[0].tolist())


@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_all_inputs_are_within_one_step(name: str, reach: float) -> None:
    values = FUNCTIONS[name](INPUTS * reach / 127)
    limits = (-128, 127) if values.min() >= 0 else SYMMETRIC
    if values.min() >= 0:
        target = values / values.max() * 255 - 128
    else:
        target = values / np.abs(values).max() * 127
    found = fit_function(target, limits)
    assert found is not None
    rounded = np.clip(round_half_up(target), *limits)
    assert np.abs(results(found.plan) - rounded).max() <= 1
    assert found.cycles <= 48 and found.error < 1


def test_a_leaky_relu_is_two_lines() -> None:
    """max(0.875 x, 0) + 0.125 x, rounded."""
    plan = steps_of(np.where(INPUTS > 0, INPUTS, INPUTS / 8).astype(np.float64))
    (part,) = plan.parts
    assert [step.op for step in part.steps if step.tensor is not None] == ["add_scaled"] * 2
    assert len(part.steps) <= 8
    assert results(plan)[126:131] == [0, 0, 0, 1, 2]


def test_a_dip_takes_a_second_tensor() -> None:
    plan = steps_of(FUNCTIONS["hard swish"](INPUTS * 8 / 127) * 127 / 8)
    beside, whole = plan.parts
    assert whole.suffix == "" and beside.suffix
    assert [s.tensor for s in whole.steps if s.tensor is not None].count(beside.suffix) == 1


def test_limits_fit_the_immediates() -> None:
    for name, function in FUNCTIONS.items():
        values = function(INPUTS * 4 / 127)
        plan = steps_of(values / np.abs(values).max() * 127)
        for step in (s for part in plan.parts for s in part.steps):
            if POST_OPS[step.op].operand == "limit":
                assert MIN_IMM <= step.value[0] <= MAX_IMM, name


@pytest.mark.parametrize(
    "values",
    [
        np.where(INPUTS % 2, 100.0, -100.0),
        np.where(INPUTS > 0, np.nan, 1.0),
        np.full(256, 5.0),
        np.sin(INPUTS / 3.0) * 100,
    ],
    ids=["zigzag", "no number", "a constant", "waves"],
)
def test_what_few_lines_do_not_make_is_left_to_the_host(values: Array) -> None:
    assert fit_function(values, SYMMETRIC) is None


@settings(max_examples=30, deadline=None)
@given(
    kinks=st.lists(st.integers(-120, 120), min_size=1, max_size=3, unique=True),
    slopes=st.lists(st.floats(0, 1.5), min_size=4, max_size=4),
)
def test_whatever_is_found_is_right(kinks: list[int], slopes: list[float]) -> None:
    parts = [
        np.maximum(INPUTS - k, 0) * (b - a)
        for k, a, b in zip(kinks, slopes, slopes[1:], strict=False)
    ]
    target = slopes[0] * INPUTS + np.sum(parts, axis=0)
    found = fit_function(target, SYMMETRIC)
    if found is not None:
        rounded = np.clip(round_half_up(target), *SYMMETRIC)
        assert np.abs(results(found.plan) - rounded).max() <= 1
