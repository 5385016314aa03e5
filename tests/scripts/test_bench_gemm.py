"""GEMM steps are counted as the stage has them."""

from __future__ import annotations

from scripts import bench_gemm
from vta_config import VTAConfig


def test_gemm_steps_are_those_of_the_stage() -> None:
    """25 blocks of 9 taps fill inp; each weight serves 49 pixels."""
    for name in ("default", "w4", "w4a4"):
        insns, uops, steps = bench_gemm._gemm_insns(VTAConfig.load(name))
        assert (len(uops), steps) == (225, 8 * 49 * 225)
        assert len(insns) == 1 + 8 * 5 + 1
    stock, narrow = bench_gemm.gemm_step_ns(("default", "w4"), repeats=1)
    assert stock > 0 and narrow > 0
