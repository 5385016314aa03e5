"""What must hold for VTA to take a layer: each rule on both sides of its limit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tvm import relax

from relay_passes.operators import rules
from relay_passes.operators.table import OPERATORS
from tests.relay_passes.operators.anchors import followed, ones
from tests.relay_passes.partition.integers import Int8, number, vector
from vta_config import VTAConfig

op = relax.op


def convolved(
    *, kernel: tuple[int, int] = (1, 1), shape: tuple[int, ...] = (1, 4, 6, 6), **kw: Any
):
    t = Int8(shape)
    return followed(
        t.module(t.emit(op.nn.conv2d(t.data, ones(4, 4, *kernel), out_dtype="int32", **kw)))
    )


def pooled(kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), **kw: Any) -> Any:
    t = Int8()
    return followed(t.module(t.emit(op.nn.max_pool2d(t.data, kernel, stride, **kw))))


def stepped(*steps: Any) -> Any:
    """Return a convolution of 20 channels with steps: (operator, operand)."""
    t = Int8((1, 4, 6, 6))
    y = t.conv(t.data, 20)
    for operator, operand in steps:
        y = t.emit(operator(y, operand))
    return followed(t.module(y))


def channels(*values: int) -> Any:
    return vector([values[i % len(values)] for i in range(20)])


def test_nchw_layout(default_config: VTAConfig) -> None:
    t = Int8((1, 6, 6, 4))
    call = op.nn.conv2d(
        t.data, ones(1, 1, 4, 4), data_layout="NHWC", kernel_layout="HWIO", out_dtype="int32"
    )
    assert not rules.nchw_layout(followed(t.module(t.emit(call))), default_config)
    t = Int8((1, 6, 6, 4))
    pool = followed(t.module(t.emit(op.nn.max_pool2d(t.data, (2, 2), layout="NHWC"))))
    assert not rules.nchw_layout(pool, default_config)
    assert rules.nchw_layout(convolved(), default_config)
    assert rules.nchw_layout(pooled((2, 2)), default_config)


@pytest.mark.parametrize(
    ("shape", "holds"), [((2, 3), True), ((2, 3, 4), False), ((2, 3, 4, 5), True)]
)
def test_four_dimensions(shape: tuple[int, ...], holds: bool, default_config: VTAConfig) -> None:
    t = Int8(shape)
    chain = followed(t.module(t.small(t.wide(t.data))))
    assert rules.four_dimensions(chain, default_config) is holds


@pytest.mark.parametrize(("padding", "holds"), [(15, True), (16, False)])
@pytest.mark.parametrize("side", range(4))
def test_padding_fits(padding: int, holds: bool, side: int, default_config: VTAConfig) -> None:
    sides = tuple(padding if i == side else 0 for i in range(4))
    chain = convolved(kernel=(17, 17), shape=(1, 4, 20, 20), padding=sides)
    assert rules.padding_fits(chain, default_config) is holds


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        ({"kernel": (3, 3), "padding": 2}, True),  # windows of the border reach one pixel
        ({"kernel": (3, 3), "padding": 3}, False),
        ({"kernel": (2, 2), "padding": 2, "dilation": 2}, True),  # taps at -2 and 0
        ({"kernel": (1, 1), "padding": (0, 1, 0, 0)}, False),
        ({"kernel": (1, 1), "padding": (0, 0, 1, 0)}, False),  # the last row is below the picture
        ({"kernel": (1, 1), "padding": (0, 0, 1, 0), "strides": 4}, True),  # ... and not reached
    ],
)
def test_windows_meet_the_input(options: Any, holds: bool, default_config: VTAConfig) -> None:
    assert rules.windows_meet_the_input(convolved(**options), default_config) is holds


@pytest.mark.parametrize(
    ("kernel", "dilation", "machine", "holds"),
    [
        ((27, 28), 1, "default", True),
        ((27, 29), 1, "default", False),  # more than 3/4 of 1,024 weights
        ((3, 3), 19, "default", True),
        ((3, 3), 20, "default", False),  # 41 x 41 of 2,048 numbers
        ((6, 8), 1, "small", True),
        ((7, 7), 1, "small", False),
        ((15, 17), 1, "w4", True),
        ((16, 17), 1, "w4", False),  # three planes of weights
        ((15, 17), 1, "w4a4", True),
        ((3, 3), 12, "w4a4", False),  # three planes of numbers
    ],
)
def test_window_fits(kernel: tuple[int, int], dilation: int, machine: str, holds: bool) -> None:
    chain = convolved(kernel=kernel, shape=(1, 4, 64, 64), dilation=dilation)
    assert rules.window_fits(chain, VTAConfig.load(machine)) is holds


def test_dense_dilation(default_config: VTAConfig) -> None:
    assert rules.dense_dilation(pooled((2, 2), (2, 2)), default_config)
    assert not rules.dense_dilation(pooled((2, 2), dilation=(2, 1)), default_config)
    assert not rules.dense_dilation(pooled((2, 2), ceil_mode=True), default_config)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "holds"),
    [
        ((3, 3), (2, 2), (1, 1, 1, 1), True),
        ((2, 2), (1, 1), (2, 0, 0, 0), False),  # the first window is all padding
        ((2, 2), (1, 1), (0, 0, 0, 1), True),  # windows begin at columns 0 to 5 of 6
        ((2, 2), (1, 1), (0, 0, 0, 2), False),
    ],
)
def test_windows_start_inside(
    kernel: Any, stride: Any, padding: Any, holds: bool, default_config: VTAConfig
) -> None:
    chain = pooled(kernel, stride, padding=padding)
    assert rules.windows_start_inside(chain, default_config) is holds


@pytest.mark.parametrize("addend", ["constant", "tensor", None])
def test_nothing_is_added_to_a_maximum(addend: str | None, default_config: VTAConfig) -> None:
    t = Int8()
    y = t.wide(t.emit(op.nn.max_pool2d(t.data, (1, 1))))
    if addend:
        y = t.emit(op.add(y, number(3) if addend == "constant" else t.wide(t.data)))
    chain = followed(t.module(t.small(y)))
    assert chain.kind == "max_pool2d"
    assert rules.windows_start_inside(chain, default_config) is (addend is None)


@pytest.mark.parametrize("operator", [op.right_shift, op.left_shift, op.multiply])
def test_one_number_a_block(operator: Any, default_config: VTAConfig) -> None:
    assert default_config.block == 16
    blocks = vector([3] * 16 + [5] * 4)
    for operand, holds in ((number(3), True), (blocks, True), (channels(3, 4), False)):
        assert rules.one_number_a_block(stepped((operator, operand)), default_config) is holds
    able = replace(default_config, capabilities=frozenset({"shr_register"}))
    holds = operator is op.right_shift
    assert rules.one_number_a_block(stepped((operator, channels(3, 4))), able) is holds


def test_biases_may_differ(default_config: VTAConfig) -> None:
    assert rules.one_number_a_block(stepped((op.add, channels(3, 4))), default_config)


@pytest.mark.parametrize(
    ("axes", "kept", "holds"),
    [([2, 3], True, True), ([-1, -2], True, True), ([2, 3], False, False), ([2], True, False),
     ([1, 2, 3], True, False), (None, True, False)],
)  # fmt: skip
def test_sums_rows_and_columns(
    axes: Any, kept: bool, holds: bool, default_config: VTAConfig
) -> None:
    t = Int8()
    chain = followed(t.module(t.emit(op.sum(t.wide(t.data), axis=axes, keepdims=kept))))
    assert chain.kind == "sum_pool2d"
    assert rules.sums_rows_and_columns(chain, default_config) is holds


def test_multiplies_if_possible(default_config: VTAConfig) -> None:
    able = replace(default_config, capabilities=frozenset({"mul"}))
    for factor, holds in ((1, True), (0, False), (-3, False)):
        chain = stepped((op.multiply, number(factor)))
        assert rules.multiplies_if_possible(chain, default_config) is holds
        assert rules.multiplies_if_possible(chain, able)


@pytest.mark.parametrize("operator", [op.right_shift, op.left_shift])
def test_shifts_in_range(operator: Any, default_config: VTAConfig) -> None:
    for amount, holds in ((0, True), (31, True), (32, False), (-1, False)):
        chain = stepped((operator, number(amount)))
        assert rules.shifts_in_range(chain, default_config) is holds


@pytest.mark.parametrize(
    ("shift", "factor", "holds"),
    [(12, 0, True), (13, 0, False), (0, 8128, True), (0, 8129, False)],
)
def test_residuals_fit(shift: int, factor: int, holds: bool, default_config: VTAConfig) -> None:
    t = Int8()
    wide = t.wide(t.data, shift)
    wide = t.emit(op.multiply(wide, number(factor))) if factor else wide
    chain = followed(t.module(t.emit(op.add(t.conv(t.data), wide))))
    assert len(chain.inputs) == 2
    assert rules.residuals_fit(chain, default_config) is holds


def test_limits_fit(default_config: VTAConfig) -> None:
    for low, high, holds in ((-32768, 32767, True), (-32769, 0, False), (0, 32768, False)):
        chain = stepped((op.maximum, number(low)), (op.minimum, number(high)))
        assert rules.limits_fit(chain, default_config) is holds


@pytest.mark.parametrize(
    ("machine", "batch", "holds"),
    [("default", 0, True), ("block32", 0, True), ("default", 1, False), ("w4", 0, False)],
)
def test_one_image_of_int8(machine: str, batch: int, holds: bool) -> None:
    config = replace(VTAConfig.load(machine), log_batch=batch)
    assert rules.one_image_of_int8(convolved(kernel=(1, 1)), config) is holds


def test_one_left_shift(default_config: VTAConfig) -> None:
    assert rules.one_left_shift(stepped((op.left_shift, channels(2))), default_config)
    assert not rules.one_left_shift(stepped((op.left_shift, channels(2, 3))), default_config)
    assert rules.one_left_shift(stepped((op.right_shift, channels(2, 3))), default_config)


def test_every_rule_is_a_sentence_and_used() -> None:
    used = {rule for row in OPERATORS.values() for rule in row.rules}
    named = {f for name, f in vars(rules).items() if callable(f) and f.__module__ == rules.__name__}
    assert {f for f in named if not f.__name__.startswith("_")} == used
    for rule in used:
        sentence = rule.__doc__ or ""
        assert sentence[0].isupper() and sentence.endswith(".")
