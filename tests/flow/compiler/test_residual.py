"""Residuals times any integer, one a block of channels: diagonal weights and repeats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compiler.normal_form import normal_layer
from flow.compiler.residual import CopiedResiduals, late_residuals, residuals_of
from relay_passes.partition.layers import PostOp, TensorSpec
from tests.flow.compiler.networks import conv, requantize, subgraph
from tests.flow.compiler.test_lower import check, compiled
from vta_config.errors import CapacityError
from vta_config.hardware import VTAConfig
from vta_config.portable import MAX_WEIGHT

W4, W4A4 = VTAConfig.load("w4"), VTAConfig.load("w4a4")


@pytest.mark.parametrize("preset", ["default", "small"])
def test_a_multiplier_for_each_block(preset: str) -> None:
    block = VTAConfig.load(preset).block
    factors = np.repeat([100, 200, 50, 100, 7 * 127], block).astype(np.int32)
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 5 * block, 9, 9), dtype="int8")
    bias, *rest = requantize(rng, 5 * block, 12)
    steps = (bias, PostOp(op="add_scaled", value=factors, tensor="x"), *rest)
    layer = conv(rng, "conv", x, 5 * block, (3, 3), padding=(1, 1, 1, 1), post_ops=steps)
    check(subgraph((layer,), x), preset)


@pytest.mark.parametrize(
    ("factor", "terms"),
    [
        (1, ((1, 1),)),
        (127, ((127, 1),)),
        (254, ((127, 2),)),
        (256, ((85, 2), (86, 1))),
        (131, ((65, 1), (66, 1))),
        (1024, ((113, 2), (114, 7))),
    ],
)
def test_fewest_steps(
    factor: int, terms: tuple[tuple[int, int], ...], default_config: VTAConfig
) -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 20, 4, 4), dtype="int8")
    step = PostOp(op="add_scaled", value=factor, tensor="x")
    layer = conv(rng, "conv", x, 20, (1, 1), post_ops=(step,))
    (found,) = residuals_of(step, layer, default_config)
    assert found.terms == (terms, terms) and found.passes == -(-factor // MAX_WEIGHT)
    assert sum(weight * repeats for weight, repeats in terms) == factor


def test_what_does_not_split(default_config: VTAConfig) -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 16, 4, 4), dtype="int8")
    step = PostOp(op="add_scaled", value=8129, tensor="x")
    large = conv(rng, "large", x, 16, (1, 1), post_ops=(step,))
    with pytest.raises(CapacityError, match="large: x: must be multiplied by at most 8128, got 81"):
        compiled(subgraph((large,), x))


@settings(max_examples=200, deadline=None)
@given(
    factor=st.integers(1, 8128),
    planes=st.integers(1, 3),
    more=st.sampled_from([(), (4,), (8, 4), (5,), (6, 3)]),
    alike=st.booleans(),
)
def test_multipliers_add_up(factor: int, planes: int, more: tuple[int, ...], alike: bool) -> None:
    factors = np.full(32, factor, np.int32)
    if not alike:
        factors[::3] = 1 + factor // 2
    x = TensorSpec(name="x", shape=(1, 32, 4, 4), dtype="int8")
    step = PostOp(op="add_scaled", value=factors, tensor="x")
    layer = conv(np.random.default_rng(0), "conv", x, 32, (1, 1), post_ops=(step,))
    parts = residuals_of(step, layer, W4A4, planes=planes, exponents=(*more, 0))
    assert list(parts) == sorted(parts, key=lambda part: -part.exponent)
    for plane in range(planes):
        total = np.zeros(32, np.int64)
        for part in (p for p in parts if p.plane == plane):
            if part.diagonals is not None:
                assert part.diagonals.min() >= -8 and part.diagonals.max() <= 7
                lanes = np.einsum("osii->oi", part.diagonals.astype(np.int64))
            else:
                assert all(-8 <= w <= 7 for block in part.terms for w, _ in block)
                lanes = np.repeat([[sum(w * n for w, n in b)] for b in part.terms], 16, axis=1)
            total += lanes.reshape(-1) << part.exponent
        np.testing.assert_array_equal(total, factors.astype(np.int64) << 4 * plane)


@pytest.mark.parametrize(
    ("factor", "cycles"),
    # A step each, one a shift: 64 and 96 are one digit times a power of two, 127 is 4 · 32 - 1.
    [(7, 1), (14, 2), (15, 3), (21, 3), (64, 2), (96, 2), (100, 3), (127, 3)],
)
def test_a_residual_goes_through_the_exponents_that_cost_least(factor: int, cycles: int) -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 16, 6, 6), dtype="int8")
    step = PostOp(op="add_scaled", value=factor, tensor="x")
    steps = (step, PostOp(op="shr", value=4), PostOp(op="max", value=0), PostOp(op="min", value=9))
    layer = conv(rng, "conv", x, 16, (3, 3), padding=(1,) * 4, post_ops=steps)
    assert layer.weight is not None
    layer = replace(layer, weight=np.clip(layer.weight, -7, 7))
    normal = normal_layer(layer, W4)
    steps_a_vector = sum(part.passes for part in normal.residuals)
    assert steps_a_vector + len(normal.exponents) - 1 == cycles
    check(subgraph((layer,), x), "w4")


@pytest.mark.parametrize(("factor", "copied"), [(1, False), (2, False), (3, True), (100, True)])
def test_late_residuals_of_many_steps_are_summed_up_beside_the_tile(
    factor: int, copied: bool
) -> None:
    x = TensorSpec(name="x", shape=(1, 20, 4, 4), dtype="int8")
    step = PostOp(op="add_scaled", value=factor, tensor="x")
    late = (PostOp(op="shr", value=1), step)
    layer = conv(np.random.default_rng(0), "conv", x, 20, (1, 1), post_ops=late)
    found = late_residuals(step, layer, W4A4, planes=2)
    assert any(isinstance(part, CopiedResiduals) for part in found) == copied
    # As it stands, ⌈16 · m / 7⌉ + ⌈m / 7⌉ steps; beside, a reset and an addition of two cycles.
    direct = -(-16 * factor // 7) - (-factor // 7)
    assert sum(part.cycles(W4A4.profile) for part in found) <= direct
    plain = late_residuals(step, layer, VTAConfig.load("default"), planes=1)
    assert plain == residuals_of(step, layer, VTAConfig.load("default"))
