"""A max-pool inside the convolution before it: what is joined, and what that saves."""

from __future__ import annotations

import numpy as np
import pytest

from flow.compiler.normal_form import normal_layer
from flow.compiler.operators.conv_pool import fused_pools, normal_layer_with_pool
from relay_passes.partition.layers import TensorSpec
from tests.flow.compiler.networks import conv, max_pool, subgraph
from tests.flow.compiler.operators.counts import counted
from tests.flow.compiler.test_lower import check
from vta_config import VTAConfig

X = TensorSpec(name="x", shape=(1, 16, 16, 16), dtype="int8")


def test_a_pool_that_alone_reads_a_convolution() -> None:
    rng = np.random.default_rng(0)
    first = conv(rng, "first", X, 16, (3, 3), padding=(1, 1, 1, 1))
    pool = max_pool("pool", first, 3, 2, 1)
    last = conv(rng, "last", pool, 16, (1, 1))
    assert fused_pools(subgraph((first, pool, last), X)) == {"first": pool}
    other = conv(rng, "other", first, 16, (1, 1))  # reads the convolution, too
    assert fused_pools(subgraph((first, pool, other, last), X)) == {}
    assert fused_pools(subgraph((max_pool("pool", X, 2, 2),), X)) == {}


@pytest.mark.parametrize("kernel", [2, 3])
def test_the_convolutions_tensor_is_stored_nowhere(kernel: int) -> None:
    first = conv(np.random.default_rng(0), "first", X, 32, (3, 3), padding=(1, 1, 1, 1))
    pool = max_pool("pool", first, kernel, 2, kernel // 2 if kernel == 3 else 0)
    program = check(subgraph((first, pool), X))
    (record,) = program.layers
    assert (record.name, record.kind) == ("first", "conv2d+max_pool2d")
    assert record.output.name == "pool" and record.output.shape == (1, 32, 8, 8)
    counts = counted(first, pool, inputs=(X,))
    assert counts["out_bytes"] == 2 * 64 * 16
    # Where windows overlap at the edge of a tile, sums are made for both.
    steps = 2 * (16 * 3 - 2) ** 2
    assert counts["gemm_conv_ops"] == steps if kernel == 2 else counts["gemm_conv_ops"] >= steps


def test_the_layer_in_normal_form_ends_with_the_pool(default_config: VTAConfig) -> None:
    first = conv(np.random.default_rng(0), "first", X, 16, (3, 3), padding=(1, 1, 1, 1))
    pool = max_pool("pool", first, 2, 2)
    joined = normal_layer_with_pool(first, pool, default_config)
    assert joined.last is joined.pool and joined.kind == "conv2d+max_pool2d"
    alone = normal_layer_with_pool(first, None, default_config)
    assert alone.pool is None and alone.last is alone.layer
    assert alone.shape == normal_layer(first, default_config).shape
