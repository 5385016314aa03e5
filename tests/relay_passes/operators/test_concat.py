"""Concatenations along channels, rows or columns start layers; others stay."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from relay_passes.operators.concat import OPERATOR
from relay_passes.operators.operator import Window
from tests.relay_passes.operators.anchors import anchored
from tests.relay_passes.partition.integers import Int8, check_meaning
from vta_config.hardware import VTAConfig


def test_a_concatenation_of_int8_starts_a_layer() -> None:
    t = Int8()
    left, right = t.small(t.conv(t.data, 8)), t.small(t.conv(t.data, 5))
    mod = t.module(t.emit(relax.op.concat([left, right, left], axis=-3)))
    chain = anchored(mod, OPERATOR)
    assert chain is not None and chain.movement is not None
    assert chain.inputs == (left, right, left) and chain.movement.shape == (1, 21, 6, 6)
    assert OPERATOR.read(chain.anchor.value, (1, 8, 6, 6)) == ("concat", Window(), None)
    assert OPERATOR.out_shape((1, 8, 6, 6), Window(), None) == (1, 8, 6, 6)
    x = np.zeros((1, 1, 1, 1), np.int64)
    assert OPERATOR.meaning(x, None, Window(), x.shape) is x


def test_layers_mean_what_relax_computes(default_config: VTAConfig) -> None:
    t = Int8()
    left, right = t.small(t.conv(t.data, 16)), t.small(t.conv(t.data, 5))
    both = t.emit(relax.op.concat([left, right], axis=1))
    wide = t.emit(relax.op.nn.relu(t.wide(both)))
    layers = check_meaning(t.module(t.small(wide, 1)), default_config)
    assert [layer.kind for layer in layers] == ["conv2d", "conv2d", "concat"]
    assert [step.op for step in layers[-1].post_ops] == ["max", "shr", "max", "min"]


@pytest.mark.parametrize("axis", [2, -1])
def test_rows_and_columns(axis: int, default_config: VTAConfig) -> None:
    t = Int8()
    left, right = t.small(t.conv(t.data, 8)), t.small(t.conv(t.data, 8, strides=(1, 1)))
    both = t.emit(relax.op.concat([left, right, left], axis=axis))
    layers = check_meaning(t.module(both), default_config)
    assert [layer.kind for layer in layers] == ["conv2d", "conv2d", "concat"]
    assert layers[-1].out_shape == ((1, 8, 18, 6) if axis == 2 else (1, 8, 6, 18))


def test_images_start_none() -> None:
    t = Int8()
    both = t.emit(relax.op.concat([t.small(t.conv(t.data)), t.data], axis=0))
    assert anchored(t.module(both), OPERATOR) is None


def test_other_types_and_ranks_start_none() -> None:
    t = Int8()
    wide = t.wide(t.data)
    assert anchored(t.module(t.emit(relax.op.concat([wide, wide], axis=1))), OPERATOR) is None
    flat = t.emit(relax.op.reshape(t.data, (1, 4, 36)))
    assert anchored(t.module(t.emit(relax.op.concat([flat, flat], axis=1))), OPERATOR) is None
    value = relax.const(np.zeros((1, 1, 6, 6), np.int8))
    mod = t.module(t.emit(relax.op.concat([t.data, value], axis=1)))
    assert anchored(mod, OPERATOR) is None
