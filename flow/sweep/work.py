"""What the programs of a network do for one image: cycles, steps, bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from flow.sim.timing_report import RESOURCES, LayerTiming, steps_of
from vta_config.isa import INSN_BYTES, Insn, Opcode

if TYPE_CHECKING:
    from flow.sim.tsim import TSim


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the programs of a network do for one image.

    Parameters
    ----------
    cycles : int
        Of all programs.
    insns : int
        Instructions.
    gemm_steps : int
        GEMM steps that multiply: of layers, biases, residuals and pooling.
    useful_steps : int
        Those of them that multiply a layer's inputs by its weights.
    reset_steps : int
        GEMM steps that clear accumulators.
    alu_steps : int
        ALU steps.
    alu_reads : int
        Vectors that these read: two where both operands are accumulators.
    inp_bytes, wgt_bytes, acc_bytes, uop_bytes, out_bytes : int
        Moved from or to DRAM.
    bound : str
        The resource with the most cycles on the critical path.
    bound_share : float
        The share of the cycles that it has there.
    """

    cycles: int
    insns: int
    gemm_steps: int
    useful_steps: int
    reset_steps: int
    alu_steps: int
    alu_reads: int
    inp_bytes: int
    wgt_bytes: int
    acc_bytes: int
    uop_bytes: int
    out_bytes: int
    bound: str
    bound_share: float

    @property
    def dram_bytes(self) -> int:
        """All bytes moved between DRAM and the machine, instructions included."""
        return self.data_bytes + INSN_BYTES * self.insns

    @property
    def data_bytes(self) -> int:
        """The same without instructions, as ``vta-flow estimate`` says it."""
        return self.inp_bytes + self.wgt_bytes + self.acc_bytes + self.uop_bytes + self.out_bytes

    @property
    def utilization(self) -> float:
        """The share of the cycles that are GEMM steps on inputs and weights."""
        return self.useful_steps / self.cycles if self.cycles else 0.0

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Work:
        """Return what `asdict` made.

        Raises
        ------
        Exception
            When it is something else.
        """
        names = [f.name for f in fields(cls)]
        if sorted(value) != sorted(names):
            raise ValueError("not the fields of Work")
        for name in names:
            kind = str if name == "bound" else (int, float) if name == "bound_share" else int
            if not isinstance(value[name], kind):
                raise TypeError(name)
        return cls(**value)


def work_of(timed: Sequence[TSim]) -> Work:
    """Add up what timed programs do."""
    layers = [layer for sim in timed for layer in sim.result.layers]
    cycles = sum(sim.cycles for sim in timed)
    path = {r: sum(layer.path[r] for layer in layers) for r in RESOURCES}
    bound = max(RESOURCES, key=lambda r: path[r])
    steps = _steps(insn for sim in timed for insn in sim.program.insns)
    return Work(
        cycles=cycles,
        insns=sum(len(sim.program.insns) for sim in timed),
        gemm_steps=steps["gemm"],
        useful_steps=sum(layer.gemm_steps for layer in layers),
        reset_steps=steps["reset"],
        alu_steps=steps["alu"],
        alu_reads=steps["reads"],
        **_bytes(layers),
        bound=bound,
        bound_share=round(path[bound] / cycles, 6) if cycles else 0.0,
    )


def _steps(insns: Iterable[Insn]) -> Counter[str]:
    steps: Counter[str] = Counter()
    for insn in insns:
        if insn.opcode == Opcode.GEMM:
            steps["reset" if insn["reset"] else "gemm"] += steps_of(insn)
        elif insn.opcode == Opcode.ALU:
            steps["alu"] += steps_of(insn)
            steps["reads"] += steps_of(insn) * (1 if insn["use_imm"] else 2)
    return steps


def _bytes(layers: Sequence[LayerTiming]) -> dict[str, int]:
    names = ("inp_bytes", "wgt_bytes", "acc_bytes", "uop_bytes", "out_bytes")
    return {name: sum(getattr(layer, name) for layer in layers) for name in names}
