"""Sums over the picture: a GEMM step with a diagonal weight for each pixel and block."""

from __future__ import annotations

import pytest

from flow.compiler.operators.sum_pool2d import LOWERER
from relay_passes.partition.layers import TensorSpec
from tests.flow.compiler.networks import max_pool, subgraph, sum_pool
from tests.flow.compiler.operators.counts import counted
from tests.flow.compiler.test_lower import check
from vta_config.isa import Memory, Opcode


@pytest.mark.parametrize(("channels", "size"), [(16, 7), (40, 4), (16, 60)])
def test_steps(channels: int, size: int) -> None:
    x = TensorSpec(name="x", shape=(1, channels, size, size), dtype="int8")
    layer = max_pool("max", x, 1, 1)  # a convolution would add up its own tensor
    counts = counted(layer, sum_pool("pool", layer, 5), inputs=(x,))
    vectors = -(-channels // 16)
    assert counts["gemm_pool_ops"] == vectors * size * size
    assert counts["out_bytes"] == vectors * 16 and not LOWERER.searched


@pytest.mark.parametrize(("channels", "size"), [(64, 11), (600, 7), (40, 60)])
def test_chunks_are_small(channels: int, size: int) -> None:
    """LOAD brings an eighth of inp at a time, and the sums do not depend on how."""
    x = TensorSpec(name="x", shape=(1, channels, size, size), dtype="int8")
    layer = max_pool("max", x, 1, 1)  # a convolution would add up its own tensor
    program = check(subgraph((layer, sum_pool("pool", layer, 5)), x))
    loads = [
        insn["x_size"] * insn["y_size"]
        for insn in program.insns
        if insn.opcode == Opcode.LOAD
        and insn["memory_type"] == Memory.INP
        and insn.origin.layer == "pool"
    ]
    assert max(loads) <= 2048 // 8
    # And no less than what the start of an instruction is worth.
    assert len(loads) <= 3 + channels * size * size / 16 / 64
