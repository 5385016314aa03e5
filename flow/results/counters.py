"""What each layer of a program costs: counters of the simulator, GEMM operations by purpose."""

from __future__ import annotations

from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from flow.results.report import GEMM_PARTS
from vta_config.origin import Purpose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flow.sim.program_sim import ProgramSim

#: Which of `GEMM_PARTS` a GEMM counts for, by its purpose. Clearing counts for none: it has no
#: operations.
_PART_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        Purpose.GEMM: "gemm_conv_ops",
        Purpose.BIAS: "gemm_bias_ops",
        Purpose.RESIDUAL: "gemm_residual_ops",
        Purpose.POOL: "gemm_pool_ops",
    }
)


def counters_by_layer(sim: ProgramSim) -> dict[str | None, dict[str, int]]:
    """Count bytes, operations and instructions of each layer for one run.

    Returns
    -------
    dict of (str or None) to dict of str to int
        By layer, what works for none (shared constants, FINISH) by None; the simulator's counters,
        and `gemm_ops` by `GEMM_PARTS`. Clearing accumulators is no GEMM operation, as in the
        original simulator.
    """
    result: dict[str | None, dict[str, int]] = {}
    begin = 0
    for origin, group in groupby(insn.origin for insn in sim.program.insns):
        end = begin + sum(1 for _ in group)
        counts = sim.sim.counters(begin, end)
        total = result.setdefault(origin.layer, dict.fromkeys((*counts, *GEMM_PARTS), 0))
        for key, value in counts.items():
            total[key] += value
        if origin.purpose in _PART_OF:
            total[_PART_OF[origin.purpose]] += counts["gemm_ops"]
        begin = end
    return result
