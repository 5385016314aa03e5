"""Convolutions: a GEMM step for each output vector, block of input channels and tap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flow.compiler.cost import Tiling
from flow.compiler.operators.conv2d import LOWERER
from flow.compiler.schedule import Schedule
from relay_passes.partition.layers import PostOp, TensorSpec
from tests.flow.compiler.networks import conv, dense, sum_pool
from tests.flow.compiler.operators.counts import counted
from vta_config.portable import constant_reach

X = TensorSpec(name="x", shape=(1, 32, 8, 6), dtype="int8")


@pytest.mark.parametrize(
    ("channels", "kernel", "options", "steps"),
    [
        (16, (1, 1), {}, 48 * 2),
        # Of the taps, those that lie on the padding take none.
        (40, (3, 3), {"padding": (1, 1, 1, 1)}, 3 * 2 * (8 * 3 - 2) * (6 * 3 - 2)),
        (16, (3, 2), {"stride": (2, 1)}, 3 * 5 * 2 * 6),
        (16, (2, 2), {"dilation": (3, 2)}, 5 * 4 * 2 * 4),
    ],
)
def test_steps(channels: int, kernel: tuple[int, int], options: dict[str, Any], steps: int) -> None:
    layer = conv(np.random.default_rng(0), "conv1", X, channels, kernel, **options)
    counts = counted(layer, inputs=(X,))
    assert counts["gemm_conv_ops"] == steps
    vectors = -(-channels // 16) * layer.out_shape[2] * layer.out_shape[3]
    assert counts["out_bytes"] == vectors * 16


def test_a_dense_layer_is_one_pixel() -> None:
    first = conv(np.random.default_rng(0), "conv1", X, 48, (1, 1))
    pool = sum_pool("pool", first, 4)
    counts = counted(first, pool, dense(np.random.default_rng(1), "fc", pool, 20), inputs=(X,))
    assert counts["gemm_conv_ops"] == 3 * 2 and counts["out_bytes"] == 2 * 16


@pytest.mark.parametrize("oc_outer", [False, True])
def test_what_stays_is_loaded_once(oc_outer: bool) -> None:
    """Two places and two groups of channels: the slots hold both chunks of either."""
    layer = conv(np.random.default_rng(0), "conv1", X, 32, (1, 1), post_ops=())
    tiling = Tiling(oc=1, oh=4, ow=6, ic=2, oc_w=1, oc_outer=oc_outer)
    counts = counted(layer, inputs=(X,), schedule=Schedule(tilings={"conv1": tiling}, forms={}))
    assert counts["gemm_conv_ops"] == 2 * 48 * 2
    assert counts["inp_bytes"] == 2 * 48 * 16
    assert counts["wgt_bytes"] == 2 * 2 * 256


def test_its_tiling_can_be_searched() -> None:
    assert LOWERER.searched


@pytest.mark.parametrize("tiling", [None, Tiling(oc=3, oh=4, ow=6, ic=2, oc_w=2, oc_outer=True)])
def test_only_blocks_with_large_constants_take_a_second_step(tiling: Tiling | None) -> None:
    """Of 5 blocks of channels, the constants of two are beyond the reach of one step."""
    bias = np.full(80, constant_reach(16), np.int32)
    bias[[17, 79]] += 1
    post_ops = (PostOp(op="add", value=bias),)
    layer = conv(
        np.random.default_rng(0), "conv1", X, 80, (1, 1), post_ops=post_ops, out_dtype="int32"
    )
    schedule = Schedule(tilings={"conv1": tiling} if tiling else {}, forms={})
    counts = counted(layer, inputs=(X,), schedule=schedule)
    assert counts["gemm_bias_ops"] == (5 + 2) * 48
