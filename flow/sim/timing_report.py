"""The timing of a program by layer, by module and along the critical path."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vta_config.isa import Memory, Opcode
from vta_config.origin import Purpose
from vta_config.semantics import dram_elem_bytes
from vta_config.text import shown_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flow.program.program import Program
    from vta_config.isa import Insn
    from vta_config.timing import TimingProfile

#: What can bound the latency; ``sync`` is no-ops, FINISH and the cycle between instructions.
RESOURCES: Final = ("gemm", "alu", "load", "store", "fetch", "sync")
#: The same in words, for legends.
RESOURCE_WORDS: Final = {
    "gemm": "GEMM: matrix products",
    "alu": "ALU: shifts, clips, additions",
    "load": "LOAD: reading DRAM",
    "store": "STORE: writing DRAM",
    "fetch": "FETCH: reading instructions",
    "sync": "between instructions",
}
MODULES: Final = ("LOAD", "COMPUTE", "STORE")
_TOKEN, _FETCH = 2, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTiming:
    """The timing of one layer.

    Parameters
    ----------
    name : str
    cycles : int
        From the end of the layer before (its last GEMM or ALU) to the end of this one.
    gemm_steps : int
        GEMM steps that multiply its inputs by its weights; not those that clear accumulators or add
        bias and residual.
    utilization : float
        gemm_steps / cycles.
    bound : str
        The resource with the most cycles on its part of the critical path.
    path : dict of str to int
        Cycles of its part of the critical path by resource.
    floor : int
        The roofline: the larger of the cycles of `gemm_steps` and the bus beats read. No schedule
        with the same loads is faster.
    full_floor : int
        The full roofline: the same, but with every step of COMPUTE, which runs one instruction at a
        time. That adds clearing, bias, residual and pooling steps, and the steps of the ALU.
    inp_bytes, wgt_bytes, acc_bytes, uop_bytes, out_bytes : int
        Moved from or to DRAM.
    insns : int
    """

    name: str
    cycles: int
    gemm_steps: int
    utilization: float
    bound: str
    path: dict[str, int]
    floor: int
    full_floor: int
    inp_bytes: int
    wgt_bytes: int
    acc_bytes: int
    uop_bytes: int
    out_bytes: int
    insns: int

    @property
    def ahead(self) -> bool:
        """Whether it is below its roofline: the layer before had loaded some of its operands."""
        return self.cycles < self.floor

    @property
    def bytes_read(self) -> int:
        """All bytes moved from DRAM."""
        return self.inp_bytes + self.wgt_bytes + self.acc_bytes + self.uop_bytes

    @property
    def bytes_moved(self) -> int:
        """All bytes moved from or to DRAM."""
        return self.bytes_read + self.out_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTiming:
    """How one module spends its cycles; the parts sum to the cycles of the program.

    Parameters
    ----------
    busy : int
        Cycles in which it computes or moves a bus beat.
    memory : int
        Cycles of a LOAD or STORE in which it moves no beat: memory latency, beats of other modules,
        padding.
    wait_fetch, wait_prev, wait_next : int
        Cycles until the instruction had been fetched, then until the token of the module towards
        LOAD, then until the token of the module towards STORE.
    switch : int
        The cycle between instructions, no-ops and FINISH.
    idle : int
        After its last instruction.
    """

    name: str
    busy: int
    memory: int
    wait_fetch: int
    wait_prev: int
    wait_next: int
    switch: int
    idle: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingResult:
    """The timing of a program.

    Parameters
    ----------
    profile : str
    gemm_step_cycles : int
        Cycles of a GEMM step in this profile.
    cycles : int
        From the launch until FINISH is done.
    milliseconds : float
        At the machine's clock.
    layers : tuple of LayerTiming
        In execution order; their cycles sum to `cycles`.
    modules : tuple of ModuleTiming
    path : dict of str to int
        Cycles of the critical path by resource.
    """

    profile: str
    gemm_step_cycles: int
    cycles: int
    milliseconds: float
    layers: tuple[LayerTiming, ...]
    modules: tuple[ModuleTiming, ...]
    path: dict[str, int]

    @property
    def floor(self) -> int:
        """The sum of the layers' rooflines, in cycles."""
        return sum(layer.floor for layer in self.layers)

    @property
    def full_floor(self) -> int:
        """The sum of the layers' full rooflines, in cycles."""
        return sum(layer.full_floor for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"engine": "tsim"} | asdict(self)

    def table(self) -> str:
        """Return the layers and modules as text."""
        names = [shown_name(layer.name) for layer in self.layers]
        width = max(len(name) for name in (*names, "layer"))
        path = "cycles on the critical path, by resource"
        lines = [
            f"{'':{width}} {'latency':>9} {'GEMM':>9} {'GEMM':>7} {'roofline':>10} {'above':>9}"
            f" {'full roofline':>13} {'above':>9}  {'bound':5}{path:^{9 * len(RESOURCES)}}"
            f" {'DRAM':>8} {'instruc-':>8}",
            f"{'layer':{width}} {'(cycles)':>9} {'(steps)':>9} {'use (%)':>7} {'(cycles)':>10}"
            f" {'(%)':>9} {'(cycles)':>13} {'(%)':>9}  {'by':5}"
            + "".join(f" {r:>8}" for r in RESOURCES)
            + f" {'(KiB)':>8} {'tions':>8}",
        ]

        def row(name: str, of: LayerTiming | TimingResult, bound: str, layers: list[Any]) -> str:
            steps = sum(x.gemm_steps for x in layers)
            moved = sum(x.bytes_moved for x in layers) / 1024
            use = 100 * steps / max(of.cycles, 1)
            return (
                f"{name:{width}} {of.cycles:9,} {steps:9,} {use:7.1f}"
                + _floors(of.cycles, of.floor, of.full_floor)
                + f"  {bound:5}"
                + "".join(f" {of.path[r]:8,}" for r in RESOURCES)
                + f" {moved:8,.0f} {sum(x.insns for x in layers):8,}"
            )

        lines += [row(n, x, x.bound, [x]) for n, x in zip(names, self.layers, strict=True)]
        lines.append(row("all", self, "", list(self.layers)))
        lines.append(f"latency: {self.milliseconds:.2f} ms, timing profile {self.profile}")
        lines.append(
            f"{percent_above(self.cycles, self.floor)} above the sum of the layers' rooflines, "
            f"{percent_above(self.cycles, self.full_floor)} above the sum of their full rooflines"
        )
        heads = (
            "computing or moving data",
            "waiting for memory",
            "waiting for FETCH",
            "waiting for prev",
            "waiting for next",
            "between instructions",
            "idle",
        )
        lines.append("cycles of each module")
        lines.append("module   " + "  ".join(heads))
        for m in self.modules:
            own = (m.busy, m.memory, m.wait_fetch, m.wait_prev, m.wait_next, m.switch, m.idle)
            cells = (f"{x:{len(h)},}" for x, h in zip(own, heads, strict=True))
            lines.append(f"{m.name:8} " + "  ".join(cells))
        return "\n".join(lines)


def above(cycles: int, floor: int) -> float | None:
    """Return the share by which `cycles` exceed `floor`: cycles / floor - 1; None when it is 0."""
    return cycles / floor - 1 if floor else None


def percent_above(cycles: int, floor: int) -> str:
    """Return the same as text with a percent sign: "12.4%"."""
    share = above(cycles, floor)
    return "–" if share is None else f"{share:.1%}"


def above_cell(cycles: int, floor: int) -> str:
    """Return the same as a number of percent, for a column whose heading names the unit."""
    share = above(cycles, floor)
    return "–" if share is None else f"{100 * share:.1f}"


def _floors(cycles: int, floor: int, full_floor: int) -> str:
    """Return the cells of both rooflines, each with the percentage above it."""
    low, full = above_cell(cycles, floor), above_cell(cycles, full_floor)
    return f" {floor:10,} {low:>9} {full_floor:13,} {full:>9}"


def resource_of(insn: Insn) -> str:
    """Return which of `RESOURCES` an instruction uses."""
    if insn.opcode == Opcode.GEMM:
        return "gemm"
    if insn.opcode == Opcode.ALU:
        return "alu"
    if insn.opcode == Opcode.FINISH or insn["x_size"] == 0:
        return "sync"
    return "load" if insn.opcode == Opcode.LOAD else "store"


def module_of(insn: Insn) -> int:
    """Return the index in `MODULES` of the module that runs an instruction."""
    return int(insn.module)


def convolution_steps(program: Program) -> NDArray[np.int64]:
    """Count the GEMM steps of each instruction that multiply a layer's inputs with its weights.

    Clearing, biases, residuals and pooling do not count.

    Returns
    -------
    int64[insns]
    """
    return np.array(
        [steps_of(i) if i.origin.purpose == Purpose.GEMM else 0 for i in program.insns], np.int64
    )


def steps_of(insn: Insn) -> int:
    """Return the steps of a GEMM or ALU instruction."""
    return (insn["uop_end"] - insn["uop_begin"]) * insn["iter_out"] * insn["iter_in"]


def step_cycles(insn: Insn, timing: TimingProfile) -> int:
    """Return the cycles of the steps of a GEMM or ALU instruction; 0 for any other."""
    if insn.opcode not in (Opcode.GEMM, Opcode.ALU):
        return 0
    alu, reset = insn.opcode == Opcode.ALU, bool(insn["reset"])
    each = timing.step_cycles(alu=alu, reset=reset, immediate=bool(insn["use_imm"]))
    return steps_of(insn) * each


def critical_path(
    insns: tuple[Insn, ...], table: dict[str, NDArray[np.int64]], queue_insns: int
) -> list[tuple[int, int, int, str]]:
    """Return the chain of causes that ends with the last instruction.

    Each link is (first cycle, end cycle, instruction, resource), latest first; links touch, the
    first one begins with the launch. An instruction's link reaches from the end of what it waited
    for to its own end.
    """
    start, done = table["start"].tolist(), table["done"].tolist()
    cause, cause_insn = table["cause"].tolist(), table["cause_insn"].tolist()
    request, blocked = table["request"].tolist(), table["wait_queue"].tolist()
    queues: list[list[int]] = [[], [], []]
    position = []
    for i, insn in enumerate(insns):
        queue = queues[module_of(insn)]
        position.append(len(queue))
        queue.append(i)
    links = []
    i = max(range(len(insns)), key=done.__getitem__) if insns else -1
    end = done[i] if insns else 0
    while i >= 0:
        begin = start[i]
        links.append((begin, end, i, resource_of(insns[i])))
        end = begin
        if cause[i] != _FETCH:
            i = cause_insn[i]
            continue
        # Back through the chunks, to the launch or to an instruction that kept a queue full.
        k = i
        i = -1
        while k >= 0:
            if blocked[k]:
                i = queues[module_of(insns[k])][position[k] - queue_insns]
                links.append((done[i], end, k, "fetch"))
                end = done[i]
                break
            if k == 0 or request[k - 1] != request[k]:
                links.append((request[k] if k else 0, end, k, "fetch"))
                end = request[k]
            k -= 1
    return [(b, e, k, r) for b, e, k, r in links if e > b]


def summarize(
    program: Program,
    cycles: int,
    table: dict[str, NDArray[np.int64]],
    profile: str,
    timing: TimingProfile,
) -> TimingResult:
    """Say what the timing `table` of a program means for its layers and modules.

    Parameters
    ----------
    program : Program
    cycles : int
    table : dict of str to int64[insns]
        As `flow.sim.tsim.time_stream` returns them.
    profile : str
        The name of `timing`.
    timing : TimingProfile
    """
    insns = program.insns
    names, layer = layers_of(program)
    module = np.array([module_of(insn) for insn in insns])
    links = critical_path(insns, table, timing.queue_insns)
    ends = layer_ends(layer, len(names), insns, table["done"], cycles)
    paths = _split(links, ends)
    moved = _bytes(program, layer, len(names))
    steps = np.zeros(len(names), np.int64)
    np.add.at(steps, layer, convolution_steps(program))
    counts = np.bincount(layer, minlength=len(names))
    read = np.zeros(len(names), np.int64)
    np.add.at(read, layer, np.where([i.opcode == Opcode.LOAD for i in insns], table["beats"], 0))
    computed = np.zeros(len(names), np.int64)
    np.add.at(computed, layer, [step_cycles(insn, timing) for insn in insns])
    layers = []
    for k, name in enumerate(names):
        own = int(ends[k] - (ends[k - 1] if k else 0))
        layers.append(
            LayerTiming(
                name=name,
                cycles=own,
                gemm_steps=int(steps[k]),
                utilization=float(steps[k] / own) if own else 0.0,
                bound=max(RESOURCES[:5], key=lambda r, path=paths[k]: path[r]),  # type: ignore[misc]
                path=paths[k],
                floor=int(max(steps[k] * timing.gemm_step, read[k])),
                full_floor=int(max(computed[k], read[k])),
                insns=int(counts[k]),
                **{f"{m}_bytes": int(moved[k, i]) for i, m in enumerate(_MEMORIES)},
            )
        )
    return TimingResult(
        profile=profile,
        gemm_step_cycles=timing.gemm_step,
        cycles=cycles,
        milliseconds=1e3 * cycles / program.config.clock_hz,
        layers=tuple(layers),
        modules=tuple(_module(m, insns, module, table, cycles) for m in range(3)),
        path={r: sum(path[r] for path in paths) for r in RESOURCES},
    )


_MEMORIES: Final = ("inp", "wgt", "acc", "uop", "out")


def layers_of(program: Program) -> tuple[list[str], NDArray[np.int64]]:
    """Name the layers and say which one each instruction belongs to.

    What is named after no layer (shared constants, FINISH) belongs to the layer after it, or the
    last one.
    """
    known = [record.name for record in program.layers]
    index: dict[str | None, int] = {name: k for k, name in enumerate(known)}
    found = [index.get(insn.origin.layer, -1) for insn in program.insns]
    if not known:
        return ["program"], np.zeros(len(found), np.int64)
    after = len(known) - 1
    for i in range(len(found) - 1, -1, -1):
        if found[i] < 0:
            found[i] = after
        after = found[i]
    return known, np.array(found, np.int64)


def layer_ends(
    layer: NDArray[np.int64],
    count: int,
    insns: tuple[Insn, ...],
    done: NDArray[np.int64],
    cycles: int,
) -> NDArray[np.int64]:
    """Return the cycle in which the last GEMM or ALU of each layer, or one before it, is done."""
    ends = np.zeros(count, np.int64)
    compute = np.array([insn.opcode in (Opcode.GEMM, Opcode.ALU) for insn in insns])
    np.maximum.at(ends, layer[compute], done[compute])
    ends = np.maximum.accumulate(ends)
    ends[-1] = cycles
    return ends


def _split(links: list[tuple[int, int, int, str]], ends: NDArray[np.int64]) -> list[dict[str, int]]:
    """Cut the critical path at the ends of the layers."""
    paths = [dict.fromkeys(RESOURCES, 0) for _ in ends]
    k = len(ends) - 1
    for begin, end, _, resource in links:
        while end > begin:
            while k > 0 and end <= ends[k - 1]:
                k -= 1
            cut = max(begin, int(ends[k - 1]) if k else 0)
            paths[k][resource] += end - cut
            end = cut
    return paths


def _bytes(program: Program, layer: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    sizes = {memory: dram_elem_bytes(memory, program.config) for memory in Memory}
    column = {Memory.INP: 0, Memory.WGT: 1, Memory.ACC: 2, Memory.ACC_8BIT: 2, Memory.UOP: 3}
    moved = np.zeros((count, len(_MEMORIES)), np.int64)
    for k, insn in zip(layer.tolist(), program.insns, strict=True):
        if insn.opcode in (Opcode.LOAD, Opcode.STORE) and insn["x_size"]:
            memory = Memory(insn["memory_type"])
            size = sizes[memory] * insn["x_size"] * insn["y_size"]
            moved[k, column.get(memory, 4)] += size
    return moved


def _module(
    m: int,
    insns: tuple[Insn, ...],
    module: NDArray[np.int64],
    table: dict[str, NDArray[np.int64]],
    cycles: int,
) -> ModuleTiming:
    mine = np.flatnonzero(module == m)
    resource = np.array([resource_of(insns[i]) for i in mine])
    spent = (table["done"] - table["start"])[mine]
    beats = table["beats"][mine]
    moving = (resource == "load") | (resource == "store")
    computing = (resource == "gemm") | (resource == "alu")
    busy = int(beats[moving].sum() + spent[computing].sum())
    memory = int((spent - beats)[moving].sum())
    waits = {w: int(table[w][mine].sum()) for w in ("wait_fetch", "wait_prev", "wait_next")}
    last = int(table["done"][mine].max()) if len(mine) else 0
    return ModuleTiming(
        name=MODULES[m],
        busy=busy,
        memory=memory,
        switch=last - busy - memory - sum(waits.values()),
        idle=cycles - last,
        **waits,
    )
