"""Each reason why an operator is on the host has its advice."""

from __future__ import annotations

import pytest

from relay_passes.integers.elementwise import FAR_SCALES, MANY_LINES
from relay_passes.integers.make_plan import NO_COMMON_SCALE
from relay_passes.operators.averages import NO_AVERAGE
from relay_passes.operators.calls import ACTIVATIONS
from relay_passes.operators.table import OPERATORS, reason_of
from relay_passes.partition import fallbacks
from relay_passes.partition.advice import ADVICE, advice_for

REASONS = {
    *(reason_of(rule) for row in OPERATORS.values() for rule in row.rules),
    *(row.otherwise for row in ACTIVATIONS.values() if row.otherwise),
    *fallbacks.CONVERSION_REASONS.values(),
    *(NO_COMMON_SCALE, FAR_SCALES, MANY_LINES, NO_AVERAGE),
    *(fallbacks.NO_MOVE, fallbacks.NO_PATTERN, fallbacks.FLOAT_OPERAND, fallbacks.NO_INTEGERS),
}


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_every_reason(reason: str) -> None:
    assert advice_for(reason) == ADVICE[reason]
    assert ADVICE[reason][0].islower() and not ADVICE[reason].endswith(".")


def test_advice_that_no_reason_needs() -> None:
    assert set(ADVICE) == REASONS


def test_a_reason_with_numbers() -> None:
    assert advice_for("a: must add tensors whose scales are at most 2^15 apart, got 2^20") == (
        "choose another variant, or calibrate on other images"
    )
