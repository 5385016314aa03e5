"""Products with matrices that interpolate start layers; others stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.operators.operator import Window
from relay_passes.operators.resize2d import OPERATOR
from tests.relay_passes.operators.anchors import anchored
from tests.relay_passes.partition.integers import Int8, check_meaning
from vta_config.hardware import VTAConfig


def matrix(rows: int, columns: int) -> Any:
    """Return what enlarges `columns` numbers to `rows`, with corners aligned."""
    result = np.zeros((rows, columns), np.int32)
    for row, at in enumerate(np.linspace(0, columns - 1, rows)):
        low = min(int(at), columns - 2)
        result[row, low + 1] = round((at - low) * 64)
        result[row, low] = 64 - result[row, low + 1]
    return result


@pytest.mark.parametrize("axis", [2, 3])
def test_layers_mean_what_relax_computes(axis: int, default_config: VTAConfig) -> None:
    t = Int8((1, 4, 6, 7))
    wide = t.wide(t.data)
    if axis == 2:
        call = relax.op.matmul(relax.const(matrix(9, 6)), wide)
    else:
        call = relax.op.matmul(wide, relax.const(matrix(13, 7).T.copy()))
    mod = t.module(t.small(t.emit(call), 6))
    chain = anchored(mod, OPERATOR)
    assert chain is not None and chain.movement is not None and len(chain.bindings) == 2
    assert chain.movement.shape == ((1, 4, 9, 7) if axis == 2 else (1, 4, 6, 13))
    assert OPERATOR.read(chain.anchor.value, (1, 4, 6, 7)) == ("resize2d", Window(), None)
    (layer,) = check_meaning(mod, default_config)
    assert layer.kind == "resize2d" and [step.op for step in layer.post_ops] == [
        "shr",
        "max",
        "min",
    ]


@pytest.mark.parametrize(
    "name", ["no interpolation", "floats", "int8", "a matrix for each channel"]
)
def test_others_start_none(name: str) -> None:
    t = Int8()
    yes = matrix(9, 6)
    calls = {
        "no interpolation": lambda: relax.op.matmul(
            relax.const(yes[:, [0, 2, 1, 3, 4, 5]].copy()), t.wide(t.data)
        ),
        "floats": lambda: relax.op.matmul(
            relax.const(yes.astype(np.float32)), t.emit(relax.op.astype(t.data, "float32"))
        ),
        "int8": lambda: relax.op.matmul(
            relax.const(yes.astype(np.int8)), t.data, out_dtype="int32"
        ),
        "a matrix for each channel": lambda: relax.op.matmul(
            relax.const(np.tile(yes, (4, 1, 1))), t.wide(t.data)
        ),
    }
    assert anchored(t.module(t.emit(calls[name]())), OPERATOR) is None


def test_other_ranks_and_products_of_two_start_none() -> None:
    t = Int8()
    flat = t.wide(t.emit(relax.op.reshape(t.data, (4, 6, 6))))
    assert (
        anchored(t.module(t.emit(relax.op.matmul(flat, relax.const(matrix(6, 6))))), OPERATOR)
        is None
    )
    wide, other = t.wide(t.data), t.wide(t.data)
    assert anchored(t.module(t.emit(relax.op.matmul(wide, other))), OPERATOR) is None
