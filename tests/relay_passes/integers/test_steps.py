"""Steps: post-ops on an accumulator that starts at 0."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.integers.steps import TIMES, Step, StepsPlan, TensorSteps, run_steps

#: part = min(3 x, 60); result = (max(2 x - y, 0) + part + 1 + channel) >> 1.
PLAN = StepsPlan(
    parts=(
        TensorSteps(
            suffix=".part",
            steps=(
                Step(op="add_scaled", value=(3,), tensor="x"),
                Step(op="min", value=(60,)),
            ),
        ),
        TensorSteps(
            suffix="",
            steps=(
                Step(op="add_scaled", value=(2,), tensor="x"),
                Step(op="add_scaled", value=(-1,), tensor="y"),
                Step(op="max", value=(0,)),
                Step(op="add_scaled", value=(1,), tensor=".part"),
                Step(op="add", value=(1, 2)),
                Step(op="shr", value=(1,)),
            ),
        ),
    )
)


def test_what_they_compute() -> None:
    x = np.array([[[10, -10], [30, 0]]])
    y = np.array([[[5, 5], [1, -7]]])
    expected = [[[(15 + 30 + 1) >> 1, (-30 + 1) >> 1], [(59 + 60 + 2) >> 1, (7 + 2) >> 1]]]
    assert run_steps(PLAN, {"x": x, "y": y}).tolist() == expected


def test_a_product() -> None:
    steps = (
        Step(op="add_scaled", value=(1,), tensor="x"),
        Step(op=TIMES, value=(-2,), tensor="s"),
    )
    plan = StepsPlan(parts=(TensorSteps(suffix="", steps=steps),))
    factor = np.array([[[3], [-2]]])
    assert run_steps(plan, {"x": np.array([[[1, 2], [3, 4]]]), "s": factor}).tolist() == [
        [[5, 10], [0, 0]]
    ]
    assert StepsPlan.from_json(plan.to_json()) == plan


def test_the_shift_of_the_result() -> None:
    assert PLAN.shift == 1
    assert StepsPlan(parts=PLAN.parts[:1]).shift == 0


def test_other_names_of_what_is_read() -> None:
    named = PLAN.reading({"x": "conv1"})
    read = [s.tensor for part in named.parts for s in part.steps if s.tensor is not None]
    assert read == ["conv1", "conv1", "y", ".part"]


def test_json() -> None:
    assert StepsPlan.from_json(PLAN.to_json()) == PLAN


@pytest.mark.parametrize("value", [1.5, True, "1"])
def test_json_of_something_else(value: object) -> None:
    values = PLAN.to_json()
    values[0]["steps"][0]["value"] = [value]
    with pytest.raises(ValueError, match="is no integer"):
        StepsPlan.from_json(values)
