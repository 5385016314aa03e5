"""The table of post-ops, row by row, against hand-written numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relay_passes.operators.post_ops import BY_RELAX_OP, POST_OPS
from vta_config import VTAConfig

#: Of accumulators -7 and 100, operand 3 and tensor -2, 5.
EXPECTED = {
    "add": [-4, 103],
    "add_tensor": [-23, 140],
    "add_scaled": [-13, 115],
    "shr": [-1, 12],
    "shl": [-56, 800],
    "min": [-7, 3],
    "max": [3, 100],
    "mul": [-21, 300],
}


@pytest.mark.parametrize("name", POST_OPS)
def test_its_meaning(name: str) -> None:
    row = POST_OPS[name]
    tensor = np.array([-2, 5]) if row.residual else None
    assert row.meaning(np.array([-7, 100]), 3, tensor).tolist() == EXPECTED[name]


def test_what_it_says_of_each() -> None:
    rows = POST_OPS.values()
    assert list(POST_OPS) == list(EXPECTED)
    assert {r.name for r in rows if r.per_channel} == {"add", "add_scaled", "shr", "shl", "mul"}
    assert {r.name for r in rows if r.residual} == {"add_tensor", "add_scaled"}
    assert {r.name for r in rows if r.addition} == {"add", "add_tensor", "add_scaled"}
    assert {r.name for r in rows if (r.low, r.high) == (0, 31)} == {"shr", "shl", "add_tensor"}
    assert {name: row.name for name, row in BY_RELAX_OP.items()} == {
        "add": "add",
        "right_shift": "shr",
        "left_shift": "shl",
        "minimum": "min",
        "maximum": "max",
        "multiply": "mul",
    }


@pytest.mark.parametrize("name", POST_OPS)
def test_monotone_is_what_it_says(name: str) -> None:
    row, acc = POST_OPS[name], np.arange(-300, 300)
    tensor = np.where(acc % 2, 9, -9) if row.residual else None
    operands = [v for v in (-3, 0, 2, 31) if row.low <= v <= row.high]
    rises = all((np.diff(row.meaning(acc, v, tensor)) >= 0).all() for v in operands)
    assert row.monotone == rises


def test_one_operand_for_each_block_unless_the_machine_can_differ(
    default_config: VTAConfig,
) -> None:
    able = replace(default_config, capabilities=frozenset({"shr_register"}))

    def by_block(config: VTAConfig) -> set[str]:
        return {row.name for row in POST_OPS.values() if row.one_per_block(config)}

    assert by_block(default_config) == {"shr", "shl", "mul"}
    assert by_block(able) == {"shl", "mul"}
