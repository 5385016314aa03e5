"""What an integer module says of itself."""

from __future__ import annotations

from relay_passes.integers.integer_facts import (
    host_reasons,
    quantization_plan,
    requantization_errors,
    with_facts,
    without_plan,
)
from relay_passes.names import layer_names
from tests.relay_passes.integers.stages import FLOATS, PLAN


def test_facts_come_back() -> None:
    mod = with_facts(FLOATS, errors={"y": 0.25}, host={"z": "why"}, plan=PLAN)
    assert requantization_errors(mod) == {"y": 0.25}
    assert host_reasons(mod) == {"z": "why"}
    assert quantization_plan(mod) == PLAN
    assert layer_names(mod) == {"conv0.acc": "conv0"}  # what it said before stays


def test_a_module_without_facts() -> None:
    assert requantization_errors(FLOATS) == host_reasons(FLOATS) == {}
    assert quantization_plan(FLOATS) is None


def test_integers_alone() -> None:
    mod = without_plan(with_facts(FLOATS, errors={"y": 0.25}, host={"z": "why"}, plan=PLAN))
    assert quantization_plan(mod) is None and requantization_errors(mod) == {}
    assert host_reasons(mod) == {"z": "why"} and layer_names(mod) == {"conv0.acc": "conv0"}
    assert without_plan(FLOATS).same_as(FLOATS)
