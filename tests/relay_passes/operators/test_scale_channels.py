"""Products of two int8 tensors, one of them a number per channel, start layers; others stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.graph import static_shape
from relay_passes.operators.operator import Window
from relay_passes.operators.scale_channels import OPERATOR, factors_of
from tests.relay_passes.operators.anchors import anchored
from tests.relay_passes.partition.integers import Int8, check_meaning, number, refused
from vta_config.hardware import VTAConfig


def factor(t: Int8, x: Any) -> Any:
    """Return the sum of a feature map's pixels, made small: int8[N, C, 1, 1]."""
    sums = t.emit(relax.op.sum(t.wide(x), axis=[2, 3], keepdims=True))
    return t.small(sums, 5)


def centred(t: Int8, x: Any, zero: int) -> Any:
    return t.emit(relax.op.add(t.wide(x), number(-zero)))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_product_of_int8_starts_a_layer(swapped: bool) -> None:
    t = Int8()
    x = t.small(t.conv(t.data, 8))
    s = factor(t, x)
    operands = (centred(t, x, -128), t.wide(s))
    chain = anchored(
        t.module(t.emit(relax.op.multiply(*(operands[::-1] if swapped else operands)))), OPERATOR
    )
    assert chain is not None and chain.inputs == (x, s) and chain.zero_points == (-128, 0)
    assert len(chain.bindings) == 4
    assert OPERATOR.read(chain.anchor.value, (1, 8, 6, 6)) == ("scale_channels", Window(), None)
    assert OPERATOR.out_shape((1, 8, 6, 6), Window(), None) == (1, 8, 6, 6)


def test_its_meaning() -> None:
    x, s = np.arange(8).reshape(1, 2, 2, 2), np.asarray([3, -200]).reshape(1, 2, 1, 1)
    values = OPERATOR.meaning(x, s, Window(), x.shape)
    assert values.reshape(-1).tolist() == [0, 3, 6, 9, -800, -1000, -1200, -1400]


@pytest.mark.parametrize("zeros", [(0, 0), (-128, -127), (5, 0)])
def test_layers_mean_what_relax_computes(zeros: tuple[int, int], default_config: VTAConfig) -> None:
    t = Int8()
    x = t.small(t.conv(t.data, 20))
    s = factor(t, x)
    operands = [centred(t, v, z) if z else t.wide(v) for v, z in zip((x, s), zeros, strict=True)]
    y = t.small(t.emit(relax.op.multiply(*operands)), 7)
    layers = check_meaning(t.module(t.small(t.conv(y, 4))), default_config)
    assert [layer.kind for layer in layers] == ["conv2d", "sum_pool2d", "scale_channels", "conv2d"]
    assert layers[2].inputs == (layers[0].output, layers[1].output)
    assert layers[2].zero_points == zeros and layers[2].data_inputs == layers[2].inputs


def test_a_factor_that_is_reshaped_and_converted(default_config: VTAConfig) -> None:
    """A reshape is a view between two layers, whichever of them is found first."""
    t = Int8()
    x = t.small(t.conv(t.data, 20))
    flat = t.emit(relax.op.reshape(factor(t, x), (1, 20)))
    less = t.small(t.emit(relax.op.multiply(t.wide(flat), number(3))), 2)
    s = t.emit(relax.op.reshape(less, (1, 20, 1, 1)))
    y = t.small(t.emit(relax.op.multiply(t.wide(x), t.wide(s))), 7)
    layers = check_meaning(t.module(y), default_config)
    kinds = ["conv2d", "sum_pool2d", "move", "add", "move", "scale_channels"]
    assert [layer.kind for layer in layers] == kinds


def test_two_vectors(default_config: VTAConfig) -> None:
    """A gate of a vector: its numbers of one image are channels."""
    t = Int8((1, 20))
    x = t.small(t.emit(relax.op.nn.relu(t.wide(t.data))), 1)
    y = t.small(t.emit(relax.op.multiply(t.wide(x), t.wide(t.data))), 7)
    layers = check_meaning(t.module(y), default_config)
    assert [layer.kind for layer in layers] == ["add", "scale_channels"]


def test_others_start_none() -> None:
    t = Int8()
    x = t.small(t.conv(t.data, 8))
    same = t.wide(x)
    narrow = t.emit(relax.op.mean(x, axis=[1], keepdims=True))
    for operands in (
        (same, t.wide(t.small(t.conv(x, 8)))),  # a map by a map
        (same, number(3)),
        (t.wide(x), t.emit(relax.op.astype(narrow, "int32"))),  # a number per pixel
        (t.conv(x, 8), t.wide(factor(t, x))),  # an accumulator
        (centred(t, x, 200), t.wide(factor(t, x))),
        (t.emit(relax.op.add(t.wide(x), t.wide(x))), t.wide(factor(t, x))),
    ):
        assert anchored(t.module(t.emit(relax.op.multiply(*operands))), OPERATOR) is None
    s = factor(t, x)
    twice = t.emit(relax.op.multiply(t.wide(s), t.wide(s)))
    assert anchored(t.module(twice), OPERATOR) is None  # a square
    wide = t.emit(relax.op.astype(x, "float32"))
    floats = t.emit(relax.op.multiply(wide, t.emit(relax.op.astype(s, "float32"))))
    assert anchored(t.module(floats), OPERATOR) is None


def test_which_operand_is_the_factor() -> None:
    t = Int8((1, 4, 6, 6))
    s = factor(t, t.data)
    found = factors_of(relax.op.multiply(s, t.data))
    assert found is not None and [static_shape(v) for v in found] == [(1, 4, 6, 6), (1, 4, 1, 1)]
    assert factors_of(relax.op.add(s, t.data)) is None
    assert factors_of(relax.op.multiply(s, number(2))) is None


@pytest.mark.parametrize(("machine", "takes"), [("small", True), ("w4", False), ("w4a4", False)])
def test_machines_of_other_operands_leave_it_to_the_host(machine: str, takes: bool) -> None:
    t = Int8()
    x = t.small(t.conv(t.data, 20))
    y = t.small(t.emit(relax.op.multiply(t.wide(x), t.wide(factor(t, x)))), 7)
    must = "a product of two tensors needs a machine of batch 1 and operands of 8 bits"
    found = refused(t.module(t.small(t.conv(y, 4))), VTAConfig.load(machine))
    assert found == ([] if takes else [("multiply", must)])
