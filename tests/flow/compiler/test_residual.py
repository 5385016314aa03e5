"""Residuals times any integer, one a block of channels: diagonal weights and repeats."""

from __future__ import annotations

import numpy as np
import pytest

from flow.compiler.normal_form import Residual
from relay_passes.partition.layers import PostOp, TensorSpec
from tests.flow.compiler.networks import conv, requantize, subgraph
from tests.flow.compiler.test_lower import check, compiled
from vta_config.errors import CapacityError, UnsupportedModelError
from vta_config.hardware import VTAConfig
from vta_config.portable import MAX_WEIGHT


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
    found = Residual.of(step, layer, default_config)
    assert found.terms == (terms, terms) and found.passes == -(-factor // MAX_WEIGHT)
    assert sum(weight * repeats for weight, repeats in terms) == factor


def test_what_does_not_split(default_config: VTAConfig) -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 16, 4, 4), dtype="int8")
    step = PostOp(op="add_scaled", value=8129, tensor="x")
    large = conv(rng, "large", x, 16, (1, 1), post_ops=(step,))
    with pytest.raises(CapacityError, match="large: x: must be multiplied by at most 8128, got 81"):
        compiled(subgraph((large,), x))


def test_a_multiplier_is_positive() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"PostOp\(add_scaled\)\.value: must be in \[1, "
    ):
        PostOp(op="add_scaled", value=0, tensor="x")
