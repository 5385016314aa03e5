"""What each layer of a program costs: counters of the simulator, GEMM operations by purpose."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from flow.compiler.program import layer_of_origin
from flow.report import GEMM_PARTS

if TYPE_CHECKING:
    from flow.compiler.program import Program
    from flow.sim.program_sim import ProgramSim

#: Kinds of layers whose GEMMs multiply an input with weights.
_PRODUCTS: Final = ("conv2d", "dense")


def gemm_part(origin: str, kind: str) -> str:
    """Return what a GEMM is for, one of `GEMM_PARTS`.

    Parameters
    ----------
    origin : str
        Of the instruction; the compiler ends it with what the instruction does beside the layer's
        product, e.g. ``"layer1.0.conv1 tile (0, 3) bias"``.
    kind : str
        Of its layer; of two layers in one, both: ``"conv2d+max_pool2d"``.
    """
    word = origin.rpartition(" ")[2]
    if word in ("bias", "residual", "pool"):
        return f"gemm_{word}_ops"
    if kind.partition("+")[0] in _PRODUCTS:
        return "gemm_conv_ops"
    return "gemm_residual_ops" if kind == "add" else "gemm_pool_ops"


def counters_by_layer(sim: ProgramSim) -> dict[str, dict[str, int]]:
    """Count bytes, operations and instructions of each layer for one run.

    Returns
    -------
    dict of str to dict of str to int
        By layer in execution order, what works for none by its origin; the simulator's counters,
        and `gemm_ops` by `GEMM_PARTS`. Clearing accumulators is no GEMM operation, as in the
        original simulator.
    """
    program: Program = sim.program
    kinds = {record.name: record.kind for record in program.layers}
    result: dict[str, dict[str, int]] = {}
    begin = 0
    for origin, group in groupby(insn.origin for insn in program.insns):
        end = begin + sum(1 for _ in group)
        counts = sim.sim.counters(begin, end)
        name = layer_of_origin(origin)
        total = result.setdefault(name, dict.fromkeys((*counts, *GEMM_PARTS), 0))
        for key, value in counts.items():
            total[key] += value
        total[gemm_part(origin, kinds.get(name, ""))] += counts["gemm_ops"]
        begin = end
    return result
