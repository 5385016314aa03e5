"""Timing profiles: the cycle counts of one generation of the hardware, each with its source.

Bus, bursts and clock are not of a generation but of a machine: `vta_config.hardware.VTAConfig`.

"machine.md" stands for docs/machine.md, section "Timing"; the names in parentheses are the units of
apache/tvm-vta (revision d4a15f6, hardware/chisel) that the number was read from.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Final

from vta_config.portable import QUEUE_INSNS

#: Cycles of a LOAD besides its beats and the memory's: request, look-up, the next one's start.
_LOAD: Final = 8
_SIMPLE_LOAD: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingProfile:
    """Cycle counts of one generation of the hardware.

    The order of the fields is the order of ``TimingParams`` in the C++ core. An instruction of N
    steps takes ``step * N + fixed`` cycles from its start until it is done; the next one of its
    module starts a cycle later at the earliest.

    Parameters
    ----------
    gemm_step, gemm_fixed : int
        GEMM that accumulates (TensorGemm).
    gemm_reset_step, gemm_reset_fixed : int
        GEMM with reset.
    alu_imm_step, alu_reg_step, alu_fixed : int
        ALU with an immediate, with two registers (TensorAlu).
    memory_latency : int
        Cycles that the first request of a busy spell of the memory waits (VTAMemDPIToAXI).
    tags : int
        Reads in flight (VMEParams.RequestQueueDepth).
    queue_insns : int
        Instructions that the queue of a module holds (CoreParams.instQueueEntries).
    simple_memory : int
        1: one read in flight over all clients, padding in series with the data (VMESimple,
        TensorLoadSimple).
    simple_burst : int
        Cycles of such a read besides its beats.
    """

    gemm_step: int = 1
    gemm_fixed: int = 6
    gemm_reset_step: int = 1
    gemm_reset_fixed: int = 6
    alu_imm_step: int = 1
    alu_reg_step: int = 2
    alu_fixed: int = 6
    memory_latency: int = 16
    tags: int = 16
    queue_insns: int = QUEUE_INSNS
    simple_memory: int = 0
    simple_burst: int = 4

    def step_cycles(self, *, alu: bool, reset: bool = False, immediate: bool = False) -> int:
        """Return the cycles of a step of GEMM, with `reset` or without, or of ALU."""
        if alu:
            return self.alu_imm_step if immediate else self.alu_reg_step
        return self.gemm_reset_step if reset else self.gemm_step

    def overhead(self, *, alu: bool, reset: bool = False) -> int:
        """Return the cycles from an instruction's start to the next one's, apart from its steps."""
        if alu:
            return self.alu_fixed + 1
        return (self.gemm_reset_fixed if reset else self.gemm_fixed) + 1

    def load_cycles(self, rows: int, row_beats: int, burst_beats: int) -> int:
        """Estimate the cycles from the start of a LOAD to that of the next, alone on the bus.

        The memory answers a request every two cycles at most; the older one, one after the other.

        Parameters
        ----------
        rows, row_beats : int
            Rows in DRAM and beats of each; 0 beats for what is counted elsewhere.
        burst_beats : int
            Beats that a burst has at most.
        """
        if self.simple_memory:
            bursts = -(-row_beats // burst_beats) + (row_beats == 0)
            return _SIMPLE_LOAD + rows * (row_beats + self.simple_burst * bursts)
        return self.memory_latency + _LOAD + rows * (row_beats + (row_beats > 0) * (row_beats <= 2))

    @property
    def text(self) -> str:
        """The numbers as the C++ core reads them: in the order of the fields, with commas."""
        return ",".join(str(int(value)) for value in astuple(self))


PROFILES: Final[dict[str, TimingProfile]] = {
    # machine.md: the pipelined Chisel hardware, N + 6 and 2N + 6.
    "chisel": TimingProfile(),
    # machine.md: "the older generation", GEMM 4N + 3 (TensorGemmOrig: four states a step, the last
    # result three cycles later; a reset has nothing in flight: 4N), ALU 5N with an immediate and 6N
    # without (TensorAluOrig), LOAD sum(beats + 4).
    "chisel-simple": TimingProfile(
        gemm_step=4,
        gemm_fixed=3,
        gemm_reset_step=4,
        gemm_reset_fixed=0,
        alu_imm_step=5,
        alu_reg_step=6,
        alu_fixed=0,
        simple_memory=1,
    ),
    # machine.md: "HLS boards: GEMM one per cycle, ALU one per two cycles even with an immediate".
    # Nothing is published of its memory side, which is taken from "chisel".
    "hls": TimingProfile(alu_imm_step=2),
}
