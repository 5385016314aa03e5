"""Max-pools on their own: the window copied to acc, then a MAX for each tap but one."""

from __future__ import annotations

import pytest

from flow.compiler.operators.max_pool2d import LOWERER
from relay_passes.partition.layers import TensorSpec
from tests.flow.compiler.networks import max_pool
from tests.flow.compiler.operators.counts import counted

X = TensorSpec(name="x", shape=(1, 32, 8, 8), dtype="int8")


@pytest.mark.parametrize(
    ("kernel", "stride", "maxima"),
    [
        (2, 2, 3 * 16),
        (1, 2, 0),
        (3, 1, 8 * 36),
    ],
)
def test_steps(kernel: int, stride: int, maxima: int) -> None:
    """Of two blocks: each vector loaded is copied, one tap starts the maximum of each output."""
    counts = counted(max_pool("pool", X, kernel, stride), inputs=(X,))
    out = ((8 - kernel) // stride + 1) ** 2
    assert counts["out_bytes"] == 2 * out * 16
    assert counts["gemm_ops"] == counts["inp_bytes"] // 16 + 2 * out
    assert counts["alu_ops"] == 2 * maxima


def test_there_is_nothing_to_search() -> None:
    assert not LOWERER.searched
