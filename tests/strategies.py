"""Hypothesis strategies for machines, instructions and whole legal programs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from vta_config import FlowError, VTAConfig, preset_names
from vta_config.isa import AluOp, Insn, Memory, Opcode, encode_uop, layout
from vta_config.origin import Origin

#: Names of layers that look like parts of texts, or like what a terminal or a library obeys.
HOSTILE_NAMES = (
    "",
    " ",
    " tile (1,2)c1",
    "a tile (0, 0, 0) bias",
    "wait for a",
    "a uops",
    "a",
    "a.sum",
    "a.acc",
    "a.acc.acc",
    "a.wide",
    "a.relu",
    "a.q",
    "a_2",
    "a#2",
    "lv",
    "lv1",
    "gv",
    "input",
    "setup",
    "finish",
    "constant vector",
    "all",
    "[bold]a[/]",
    "[/nothing]",
    "$x$ \\frac{",
    "\x1b[31mred\x1b[0m",
    "two\nlines; FINISH",
    "\x00\x07\x9b2J",
    "größe 大 🙂",
    "\u202eright to left",
    "x" * 10_000,
)


def layer_names(count: int) -> st.SearchStrategy[list[str]]:
    """Different names, any text that UTF-8 has."""
    name = st.sampled_from(HOSTILE_NAMES) | st.text(st.characters(exclude_categories=["Cs"]))
    return st.lists(name, min_size=count, max_size=count, unique=True)


PRESETS = [VTAConfig.load(name) for name in preset_names()]


def _config_or_none(sizes: dict[str, int]) -> VTAConfig | None:
    try:
        return VTAConfig(log_acc_width=5, **sizes)
    except FlowError:
        return None


def random_configs() -> st.SearchStrategy[VTAConfig]:
    """Machines of any geometry that VTAConfig accepts."""
    sizes = st.fixed_dictionaries(
        {
            "log_inp_width": st.integers(2, 3),
            "log_wgt_width": st.integers(2, 3),
            "log_batch": st.integers(0, 2),
            "log_block": st.integers(2, 6),
            "log_uop_buff_bytes": st.integers(4, 16),
            "log_inp_buff_bytes": st.integers(8, 18),
            "log_wgt_buff_bytes": st.integers(10, 20),
            "log_acc_buff_bytes": st.integers(9, 18),
        }
    )
    return sizes.map(_config_or_none).filter(lambda config: config is not None)  # type: ignore[return-value]


def configs() -> st.SearchStrategy[VTAConfig]:
    """Presets and random machines."""
    return st.one_of(st.sampled_from(PRESETS), random_configs())


@st.composite
def tiny_configs(draw: st.DrawFn) -> VTAConfig:
    """Machines whose buffers hold two elements or a few more, of any block and operand widths."""
    batch, block = draw(st.sampled_from([0, 0, 1, 2])), draw(st.sampled_from([2, 3, 4, 4, 5]))
    inp, wgt = draw(st.sampled_from([3, 3, 2])), draw(st.sampled_from([3, 3, 2]))
    more = st.integers(1, 8)
    return VTAConfig(
        log_inp_width=inp,
        log_wgt_width=wgt,
        log_acc_width=5,
        log_batch=batch,
        log_block=block,
        log_inp_buff_bytes=max(3, batch + block + inp - 3 + draw(more)),
        log_wgt_buff_bytes=2 * block + wgt - 3 + draw(more),
        log_acc_buff_bytes=batch + block + 2 + draw(more),
        log_uop_buff_bytes=draw(st.integers(3, 10)),
        capabilities=draw(st.sampled_from([frozenset(), frozenset(["mul", "shr_register"])])),
    )


@st.composite
def insns(draw: st.DrawFn, config: VTAConfig) -> Insn:
    """Instructions whose fields fit; they need not make sense."""
    opcode = draw(st.sampled_from(list(Opcode)))
    values = {}
    for place in layout(opcode, config):
        if place.field.name == "opcode":
            continue
        low, high = 0, (1 << place.bits) - 1
        if place.field.signed:
            low, high = -(1 << place.bits - 1), (1 << place.bits - 1) - 1
        values[place.field.name] = draw(st.integers(low, high))
    return Insn(opcode, values)


@st.composite
def config_and_insns(draw: st.DrawFn, max_size: int = 8) -> tuple[VTAConfig, list[Insn]]:
    """Pairs of a machine and instructions that it can encode."""
    config = draw(configs())
    return config, draw(st.lists(insns(config), max_size=max_size))


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomProgram:
    """A legal program with tokens and FINISH, and the memory that it starts from.

    Parameters
    ----------
    config : VTAConfig
        The machine.
    insns : list of Insn
        The instructions; their dram_base are physical (byte address / element bytes).
    address : int
        First byte of the memory, a multiple of 4096.
    memory : uint8[n]
        Its content.
    """

    config: VTAConfig
    insns: list[Insn]
    address: int
    memory: NDArray[np.uint8]


class _Builder:
    """Draws one random legal program; every round is LOAD*, COMPUTE*, STORE* joined by tokens."""

    def __init__(self, config: VTAConfig, seed: int, *, portable: bool) -> None:
        self.portable = portable
        self.rng = np.random.default_rng(seed)
        self.config = config
        self.insns: list[Insn] = []
        self.address = 4096 * int(self.rng.integers(1, 5))
        self.chunks: list[NDArray[np.uint8]] = []
        self.at = self.address

    def place(self, size_bytes: int, elem_bytes: int, data: NDArray[np.uint8] | None = None) -> int:
        """Reserve aligned memory, filled with `data` or at random; return its element address."""
        gap = -self.at % elem_bytes
        if data is None:
            data = self.rng.integers(0, 256, size_bytes, dtype=np.uint8)
        self.chunks += [np.zeros(gap, np.uint8), data]
        base = self.at + gap
        self.at = base + data.size
        return base // elem_bytes

    def emit(self, opcode: Opcode, **values: int) -> None:
        self.insns.append(Insn(opcode, values, Origin(purpose=f"random {len(self.insns)}")))

    def load(self, memory: Memory, depth: int, elem_bytes: int, **flags: int) -> tuple[int, int]:
        """Load a random 2-D block; return the elements [begin, end) that are now written."""
        rng = self.rng
        for _ in range(100):
            y, x = (int(v) for v in rng.integers(1, 5, 2))
            pads = [int(v) for v in rng.integers(0, 3, 4) * rng.integers(0, 2)]
            count = (y + pads[0] + pads[1]) * (x + pads[2] + pads[3])
            if count <= depth:
                break
        else:
            y = x = count = 1
            pads = [0] * 4
        stride = x + int(rng.integers(0, 3))
        base = int(rng.integers(0, depth - count + 1))
        self.emit(
            Opcode.LOAD,
            memory_type=memory,
            sram_base=base,
            dram_base=self.place(((y - 1) * stride + x) * elem_bytes, elem_bytes),
            y_size=y,
            x_size=x,
            x_stride=stride,
            y_pad_0=pads[0],
            y_pad_1=pads[1],
            x_pad_0=pads[2],
            x_pad_1=pads[3],
            **flags,
        )
        return base, base + count

    def nest(self, spans: dict[str, tuple[int, int]], uops: list[dict[str, int]]) -> dict[str, int]:
        """Return a loop nest over uops whose indices stay inside `spans` (operand: begin, end)."""
        rng = self.rng
        o, i, u = (int(v) for v in rng.integers(1, 4, 3))
        u = min(u, self.config.uop_depth)
        values = {"uop_end": u, "iter_out": o, "iter_in": i}
        bases = {}
        for name, (begin, end) in spans.items():
            left = end - begin - 1
            f_out = int(rng.integers(0, left // (2 * o) + 1))
            f_in = int(rng.integers(0, (left - f_out * (o - 1)) // (2 * i) + 1))
            values |= {f"{name}_factor_out": f_out, f"{name}_factor_in": f_in}
            bases[name] = (begin, end - f_out * (o - 1) - f_in * (i - 1))
        for _ in range(u):
            uops.append({f"{n}_idx": int(rng.integers(lo, hi)) for n, (lo, hi) in bases.items()})
        return values

    def alu_nest(self, acc: tuple[int, int]) -> tuple[dict[str, int], list[dict[str, int]]]:
        """Return a nest and its uops; portable: no step touches what the one before it wrote."""
        for _ in range(50):
            uops: list[dict[str, int]] = []
            values = self.nest({"dst": acc, "src": acc}, uops)
            steps = [
                [
                    u[f"{n}_idx"] + o * values[f"{n}_factor_out"] + i * values[f"{n}_factor_in"]
                    for n in ("dst", "src")
                ]
                for o in range(values["iter_out"])
                for i in range(values["iter_in"])
                for u in uops
            ]
            clash = any(a[0] in b for a, b in pairwise(steps))
            if not (self.portable and clash):
                return values, uops
        return {"uop_end": 1, "iter_out": 1, "iter_in": 1}, uops[:1]

    def load_uops(self, uops: list[dict[str, int]], **flags: int) -> None:
        words = np.array([encode_uop(self.config, **fields) for fields in uops], "<u4")
        base = self.place(0, 4, words.view(np.uint8))
        n = len(uops)
        self.emit(
            Opcode.LOAD,
            memory_type=Memory.UOP,
            dram_base=base,
            y_size=1,
            x_size=n,
            x_stride=n,
            **flags,
        )

    def round(self, *, first: bool, last: bool) -> None:
        """Append one round: loads, one GEMM and some ALU work, one store."""
        rng, c = self.rng, self.config
        pop = 0 if first else 1
        inp = self.load(Memory.INP, c.inp_depth, c.inp_elem_bytes, pop_next=pop)
        wgt = self.load(Memory.WGT, c.wgt_depth, c.wgt_elem_bytes, push_next=1)
        flags = {"pop_prev": 1, "pop_next": pop}
        acc = self.load(Memory.ACC, c.acc_depth, c.acc_elem_bytes, **flags)
        uops: list[dict[str, int]] = []
        gemm = self.nest({"dst": acc, "src": inp, "wgt": wgt}, uops)
        self.load_uops(uops)
        if rng.integers(0, 2):
            self.emit(Opcode.GEMM, reset=1, **gemm)
        self.emit(Opcode.GEMM, **gemm)
        ops = [AluOp.MIN, AluOp.MAX, AluOp.ADD, AluOp.SHR]
        if "mul" in c.capabilities:
            ops.append(AluOp.MUL)
        for _ in range(int(rng.integers(0, 4))):
            values, uops = self.alu_nest(acc)
            self.load_uops(uops)
            op = ops[int(rng.integers(len(ops)))]
            by_register = op != AluOp.SHR or "shr_register" in c.capabilities
            use_imm = int(rng.integers(0, 2)) if by_register else 1
            imm = int(rng.integers(0, 16) if op == AluOp.SHR else rng.integers(-(1 << 15), 1 << 15))
            self.emit(Opcode.ALU, alu_opcode=op, use_imm=use_imm, imm=imm, **values)
        # One more pass over all of acc makes GEMM/ALU the last write of every element stored.
        self.load_uops([{"dst_idx": acc[0], "src_idx": acc[0]}])
        self.emit(
            Opcode.ALU,
            alu_opcode=AluOp.ADD,
            use_imm=1,
            imm=int(rng.integers(-300, 300)),
            uop_end=1,
            iter_out=1,
            iter_in=acc[1] - acc[0],
            dst_factor_in=1,
            src_factor_in=1,
            push_next=1,
            push_prev=0 if last else 1,
        )
        self.store(acc)

    def store(self, acc: tuple[int, int]) -> None:
        """Store a random block of acc elements to fresh memory, and tell COMPUTE."""
        rng, elem_bytes = self.rng, self.config.out_elem_bytes
        count = acc[1] - acc[0]
        x = int(rng.integers(1, count + 1))
        y = int(rng.integers(1, count // x + 1))
        stride = x + int(rng.integers(0, 3))
        self.emit(
            Opcode.STORE,
            memory_type=Memory.OUT,
            sram_base=acc[0] + int(rng.integers(0, count - x * y + 1)),
            dram_base=self.place(((y - 1) * stride + x) * elem_bytes, elem_bytes),
            y_size=y,
            x_size=x,
            x_stride=stride,
            pop_prev=1,
            push_prev=1,
        )

    def build(self) -> RandomProgram:
        rounds = int(self.rng.integers(1, 4))
        for number in range(rounds):
            self.round(first=number == 0, last=number == rounds - 1)
        self.emit(Opcode.FINISH, pop_next=1)
        memory = np.concatenate(self.chunks)
        memory = np.concatenate([memory, np.zeros(-memory.size % 4096, np.uint8)])
        return RandomProgram(
            config=self.config, insns=self.insns, address=self.address, memory=memory
        )


def random_program(config: VTAConfig, seed: int, *, portable: bool = True) -> RandomProgram:
    """Return a legal program drawn with `seed`: tokens balance, reads are of written elements.

    With `portable`, no ALU step touches the element that the step just before it wrote.
    """
    return _Builder(config, seed, portable=portable).build()


def programs(*, portable: bool = True) -> st.SearchStrategy[RandomProgram]:
    """Legal random programs for presets and random machines."""
    seeds = st.integers(0, 2**32 - 1)
    return st.builds(random_program, configs(), seeds, portable=st.just(portable))
