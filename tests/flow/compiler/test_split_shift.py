"""Residuals that are added between two halves of a shift: exact, and in fewer steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compiler.split_shift import with_split_shift
from relay_passes.operators.post_ops import POST_OPS
from relay_passes.partition.layers import Layer, PostOp, TensorSpec
from tests.flow.compiler.networks import conv, subgraph
from tests.flow.compiler.test_lower import check
from vta_config.hardware import VTAConfig

DEFAULT = VTAConfig.load("default")
CLIP = (PostOp(op="max", value=-127), PostOp(op="min", value=127))


def layer_of(*steps: PostOp, channels: int = 32) -> tuple[Layer, TensorSpec]:
    """Return a convolution that adds its input, with these post-ops and a clip."""
    x = TensorSpec(name="x", shape=(1, channels, 5, 5), dtype="int8")
    rng = np.random.default_rng(0)
    return conv(rng, "conv", x, channels, (1, 1), post_ops=(*steps, *CLIP)), x


def scaled(value: int | list[int]) -> PostOp:
    """Return an addition of the input times a number, or one number a channel."""
    operand = value if isinstance(value, int) else np.asarray(value, np.int32)
    return PostOp(op="add_scaled", value=operand, tensor="x")


def run(steps: tuple[PostOp, ...], sums: np.ndarray, tensor: np.ndarray) -> np.ndarray:
    """Apply post-ops to sums, int64[1, C, 1, N]."""
    for step in steps:
        value = np.asarray(step.value, np.int64)
        operand = value.reshape(1, -1, 1, 1) if value.ndim else int(value)
        sums = POST_OPS[step.op].meaning(sums, operand, tensor)
    return sums


@pytest.mark.parametrize(
    ("factor", "shift", "expected"),
    [
        # Five steps and a shift become a shift and a step.
        (512, 9, [("shr", 9), ("add_scaled", 1), ("shr", 0)]),
        # Three steps and a shift become two shifts and a step, by the smallest power of two.
        (256, 10, [("shr", 2), ("add_scaled", 64), ("shr", 8)]),
        (460, 9, [("shr", 2), ("add_scaled", 115), ("shr", 7)]),
        # Two steps: a further shift would save nothing, unless none is left behind.
        (128, 9, None),
        (128, 7, [("shr", 7), ("add_scaled", 1), ("shr", 0)]),
        # A shift by less than the power of two.
        (512, 1, [("shr", 1), ("add_scaled", 256), ("shr", 0)]),
        # No multiple of a power of two, or a single step.
        (381, 9, None),
        (100, 9, None),
    ],
)
def test_the_fewest_cycles(factor: int, shift: int, expected: list[tuple[str, int]] | None) -> None:
    steps = (PostOp(op="add", value=1 << shift >> 1), scaled(factor), PostOp(op="shr", value=shift))
    layer, x = layer_of(*steps)
    found = with_split_shift(layer.post_ops, layer, DEFAULT)
    if expected is None:
        assert found is layer.post_ops
    else:
        middle = [(step.op, np.unique(step.value).tolist()) for step in found[1:4]]
        assert middle == [(op, [value]) for op, value in expected]
        assert [found[0], *found[4:]] == [layer.post_ops[0], *layer.post_ops[3:]]
    check(subgraph((layer,), x))


def test_each_block_has_its_own_power_of_two() -> None:
    factors = [512] * 16 + [384] * 16 + [3] * 16
    shifts = np.repeat([9, 8, 7], 16).astype(np.int32)
    layer, x = layer_of(scaled(factors), PostOp(op="shr", value=shifts), channels=48)
    first, residual, second = with_split_shift(layer.post_ops, layer, DEFAULT)[:3]
    for step, values in ((first, [9, 2, 0]), (residual, [1, 96, 3]), (second, [0, 6, 7])):
        np.testing.assert_array_equal(step.value, np.repeat(values, 16))
    check(subgraph((layer,), x))


def test_a_multiplier_for_each_channel() -> None:
    factors = [256 * (1 + c % 5) for c in range(32)]
    layer, x = layer_of(scaled(factors), PostOp(op="shr", value=10))
    _, residual, _ = with_split_shift(layer.post_ops, layer, DEFAULT)[:3]
    assert np.max(residual.value) <= 127
    check(subgraph((layer,), x))


def test_shifts_by_register_and_narrow_machines_stay_as_they_are() -> None:
    shifts = np.arange(32, dtype=np.int32) % 2 + 8
    layer, _ = layer_of(scaled(512), PostOp(op="shr", value=shifts))
    assert with_split_shift(layer.post_ops, layer, DEFAULT) is layer.post_ops
    layer, _ = layer_of(scaled(512), PostOp(op="shr", value=9))
    narrow = VTAConfig.load("w4")
    assert with_split_shift(layer.post_ops, layer, narrow) is layer.post_ops


@settings(max_examples=200, deadline=None)
@given(
    factors=st.lists(st.tuples(st.integers(-31, 31), st.integers(0, 7)), min_size=1, max_size=3),
    shift=st.integers(0, 20),
    seed=st.integers(0, 99),
)
def test_the_results_are_equal(factors: list[tuple[int, int]], shift: int, seed: int) -> None:
    residuals = [scaled(odd << power) for odd, power in factors]
    layer, _ = layer_of(PostOp(op="add", value=12345), *residuals, PostOp(op="shr", value=shift))
    rng = np.random.default_rng(seed)
    sums = rng.integers(-(2**24), 2**24, (1, 32, 1, 8))
    tensor = rng.integers(-128, 128, (1, 32, 1, 8))
    found = tuple(with_split_shift(layer.post_ops, layer, DEFAULT))
    np.testing.assert_array_equal(
        run(found, sums, tensor), run(tuple(layer.post_ops), sums, tensor)
    )
