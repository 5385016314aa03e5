"""Sums over the picture: a GEMM step with a diagonal weight for each pixel and block."""

from __future__ import annotations

import pytest

from flow.compiler.operators.sum_pool2d import LOWERER
from relay_passes.partition.layers import TensorSpec
from tests.flow.compiler.networks import max_pool, sum_pool
from tests.flow.compiler.operators.counts import counted


@pytest.mark.parametrize(("channels", "size"), [(16, 7), (40, 4), (16, 60)])
def test_steps(channels: int, size: int) -> None:
    x = TensorSpec(name="x", shape=(1, channels, size, size), dtype="int8")
    layer = max_pool("max", x, 1, 1)  # a convolution would add up its own tensor
    counts = counted(layer, sum_pool("pool", layer, 5), inputs=(x,))
    vectors = -(-channels // 16)
    assert counts["gemm_pool_ops"] == vectors * size * size
    assert counts["out_bytes"] == vectors * 16 and not LOWERER.searched
