"""The meaning of every instruction in numpy: the slow oracle that the simulators are compared with.

`step` executes one instruction on a `MachineState`; `run` executes a program in program order and
ignores tokens. The whole loop nest of an instruction is evaluated with index arrays. Meaning
(docs/isa.md; source: the functional simulator and the Chisel hardware of apache/tvm-vta, revision
d4a15f6):

- LOAD: ``sram[sram_base + r*columns + c] = dram[dram_base + (r - y_pad_0)*x_stride + c - x_pad_0]``
  for ``c < columns = x_pad_0 + x_size + x_pad_1`` and ``r < y_pad_0 + y_size + y_pad_1``; 0 in the
  padding. Lanes of inp and wgt are 4 or 8 bits wide in DRAM (`vta_config.lanes`). ACC_8BIT widens
  int8 to int32, on every machine.
- GEMM: ``acc[dst] += inp[src] @ wgt[wgt].T``, or ``acc[dst] = 0`` with reset.
- ALU: ``acc[dst] = op(acc[dst], imm or acc[src])``, one element after the other.
- STORE: ``dram[dram_base + r*x_stride + c] = out[sram_base + r*x_size + c]``.

int32 sums wrap modulo 2^32. GEMM (not reset) and ALU write the low bits of the accumulator, as
many as a lane of inp has, to the out element of the same index, and STORE reads out: nothing
saturates. The original functional
simulator stores from acc instead, so the two differ where the last write to an element was a LOAD
or a reset; a `strict` state refuses such a STORE, as the portable subset does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import numpy as np

from vta_config.errors import CapacityError, DecodeError, HazardError
from vta_config.hardware import VTAConfig
from vta_config.isa import INSN_BYTES, UOP_BYTES, AluOp, Insn, Memory, Opcode, decode, uop_layout
from vta_config.lanes import pack_lanes, unpack_lanes, wrap_lanes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

#: Products of lanes that are summed in float32: no partial sum is above 2^24, so each is exact.
_TERMS: Final = (1 << 24) // (128 * 128)
#: Steps of a nest whose indices are computed at once.
_PART: Final = 1 << 20
Pad = Literal["inp", "wgt", "acc", "out", "uop"]
_PAD_OF: Final[dict[Memory, Pad]] = {
    Memory.UOP: "uop",
    Memory.WGT: "wgt",
    Memory.INP: "inp",
    Memory.ACC: "acc",
    Memory.ACC_8BIT: "acc",
}


class Dram:
    """Hold the memory that a program sees: byte segments at physical addresses.

    Parameters
    ----------
    segments : iterable of (int, uint8[n])
        First byte address and the bytes, apart from each other; STORE writes into these arrays.

    Raises
    ------
    CapacityError
        When two segments overlap.
    """

    def __init__(self, segments: Iterable[tuple[int, NDArray[np.uint8]]]) -> None:
        """Sort the segments and check that they do not overlap."""
        self.segments = sorted(segments, key=lambda segment: segment[0])
        for (low, data), (high, _) in zip(self.segments, self.segments[1:], strict=False):
            if low + data.size > high:
                raise CapacityError(
                    f"dram segment {high:#x}",
                    "must start after the one before it ends",
                    got=hex(low + data.size),
                )

    def view(
        self, address: int, size_bytes: int, where: str = "dram", hint: object = ""
    ) -> NDArray[np.uint8]:
        """Return the `size_bytes` bytes at `address`, as a view.

        Raises
        ------
        CapacityError
            When they do not lie inside one segment.
        """
        for base, data in self.segments:
            if base <= address and address + size_bytes <= base + data.size:
                return data[address - base : address - base + size_bytes]
        known = ", ".join(f"[{base:#x}, {base + data.size:#x})" for base, data in self.segments)
        raise CapacityError(
            where,
            f"must stay inside the DRAM segments {known or '(none)'}",
            got=f"[{address:#x}, {address + size_bytes:#x})",
            hint=hint,
        )


@dataclass(slots=True, kw_only=True)
class Counters:
    """Count as the original simulator: bytes moved by memory, without padding, and operations."""

    inp_bytes: int = 0
    wgt_bytes: int = 0
    acc_bytes: int = 0
    uop_bytes: int = 0
    out_bytes: int = 0
    gemm_ops: int = 0
    alu_ops: int = 0
    insns: int = 0


@dataclass(slots=True, kw_only=True)
class MachineState:
    """The scratchpads, memory and counters of one machine.

    Parameters
    ----------
    config : VTAConfig
        The machine.
    dram : Dram
        Its memory.
    strict : bool
        Refuse to read scratchpad elements that were never written, to STORE an element whose last
        write was not a GEMM or an ALU operation, and an ALU operation with an immediate whose
        unused src leaves acc.

    Attributes
    ----------
    inp, out : int8[depth, batch, block]
        On machines of narrow operands in [-8, 7], and so is wgt.
    wgt : int8[depth, block_out, block_in]
    acc : int32[depth, batch, block]
    uop : uint32[depth]
        The scratchpads, zeros at first; out is as deep as acc.
    written : dict of str to bool[depth]
        Which elements of each scratchpad were ever written; for ``out``, which hold what acc holds.
    """

    config: VTAConfig
    dram: Dram
    strict: bool = True
    counters: Counters = field(default_factory=Counters)
    finished: bool = field(default=False, init=False)
    inp: NDArray[np.int8] = field(init=False)
    wgt: NDArray[np.int8] = field(init=False)
    acc: NDArray[np.int32] = field(init=False)
    out: NDArray[np.int8] = field(init=False)
    uop: NDArray[np.uint32] = field(init=False)
    written: dict[Pad, NDArray[np.bool_]] = field(init=False)

    def __post_init__(self) -> None:
        """Allocate the scratchpads."""
        c = self.config
        self.inp = np.zeros((c.inp_depth, c.batch, c.block), np.int8)
        self.wgt = np.zeros((c.wgt_depth, c.block, c.block), np.int8)
        self.acc = np.zeros((c.acc_depth, c.batch, c.block), np.int32)
        self.out = np.zeros((c.acc_depth, c.batch, c.block), np.int8)
        self.uop = np.zeros(c.uop_depth, np.uint32)
        pads: tuple[Pad, ...] = ("inp", "wgt", "acc", "out", "uop")
        self.written = {pad: np.zeros(self.pad(pad).shape[0], np.bool_) for pad in pads}

    def pad(self, name: Pad) -> NDArray[Any]:
        """Return the scratchpad `name`."""
        return cast("NDArray[Any]", getattr(self, name))


def dram_elem_bytes(memory: Memory, config: VTAConfig) -> int:
    """Return the bytes of one DRAM element of `memory`: dram_base counts these."""
    return {
        Memory.UOP: UOP_BYTES,
        Memory.WGT: config.wgt_elem_bytes,
        Memory.INP: config.inp_elem_bytes,
        Memory.ACC: config.acc_elem_bytes,
        Memory.OUT: config.out_elem_bytes,
        Memory.ACC_8BIT: config.batch * config.block,
    }[memory]


def _lane_bits(memory: Memory, config: VTAConfig) -> int:
    """Return the bits of a lane of one element of `memory`, as it lies in DRAM."""
    return {Memory.WGT: config.wgt_bits, Memory.INP: config.inp_bits, Memory.ACC_8BIT: 8}.get(
        memory, 32
    )


def _check_span(insn: Insn, what: str, low: int, high: int, depth: int, pad: str) -> None:
    """Check that elements [low, high) lie in a scratchpad of `depth` elements."""
    if low < 0 or high > depth:
        raise CapacityError(
            f"{insn.opcode.name}.{what}",
            f"must address {pad} elements below {depth}",
            got=high - 1,
            hint=insn.origin,
        )


def _check_written(state: MachineState, insn: Insn, pad: Pad, index: NDArray[np.intp]) -> None:
    if state.strict and not state.written[pad][index].all():
        first = int(index[~state.written[pad][index]].flat[0])
        must = (
            "must have a GEMM or ALU operation as its last write"
            if pad == "out"
            else "must be written before it is read"
        )
        raise HazardError(f"{insn.opcode.name} {pad}[{first}]", must, hint=insn.origin)


def _memory(insn: Insn) -> Memory:
    try:
        return Memory(insn["memory_type"])
    except ValueError:
        raise DecodeError(
            f"{insn.opcode.name}.memory_type",
            "must be in [0, 5]",
            got=insn["memory_type"],
            hint=insn.origin,
        ) from None


def _load(state: MachineState, insn: Insn) -> None:
    """Copy y_size rows of x_size elements from DRAM into a scratchpad, with zeros around them."""
    memory, config = _memory(insn), state.config
    if memory == Memory.OUT:
        raise DecodeError("LOAD.memory_type", "must not be OUT", got=memory.name, hint=insn.origin)
    if memory == Memory.ACC_8BIT and "acc_8bit" not in config.capabilities:
        raise DecodeError(
            "LOAD.memory_type",
            "ACC_8BIT must be a capability of the machine",
            got=sorted(config.capabilities),
            hint=insn.origin,
        )
    x, y = insn["x_size"], insn["y_size"]
    if x == 0:
        return
    pad = _PAD_OF[memory]
    target = state.pad(pad)
    rows, columns = insn["y_pad_0"] + y + insn["y_pad_1"], insn["x_pad_0"] + x + insn["x_pad_1"]
    base, end = insn["sram_base"], insn["sram_base"] + rows * columns
    _check_span(insn, "sram_base", base, end, target.shape[0], pad)
    size = dram_elem_bytes(memory, config)
    bits = _lane_bits(memory, config)
    block = np.zeros((rows, columns, *target.shape[1:]), target.dtype)
    for row in range(y):
        address = (insn["dram_base"] + row * insn["x_stride"]) * size
        data = state.dram.view(address, x * size, "LOAD.dram_base", insn.origin)
        lanes = (
            np.frombuffer(data.tobytes(), target.dtype.newbyteorder("<"))
            if bits == 32
            else unpack_lanes(data, bits)
        )
        block[insn["y_pad_0"] + row, insn["x_pad_0"] : insn["x_pad_0"] + x] = lanes.reshape(
            x, *target.shape[1:]
        )
    target[base:end] = block.reshape(rows * columns, *target.shape[1:])
    state.written[pad][base:end] = True
    if pad == "acc":
        state.written["out"][base:end] = False
    # Of ACC_8BIT the original counts what it fills, not what it reads.
    counted = config.acc_elem_bytes if memory == Memory.ACC_8BIT else size
    name = f"{pad}_bytes"
    setattr(state.counters, name, getattr(state.counters, name) + x * y * counted)


def _store(state: MachineState, insn: Insn) -> None:
    """Copy y_size rows of x_size out elements to DRAM."""
    memory, x, y = _memory(insn), insn["x_size"], insn["y_size"]
    if x == 0:
        return
    if memory != Memory.OUT:
        raise DecodeError("STORE.memory_type", "must be OUT", got=memory.name, hint=insn.origin)
    for name in ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"):
        if insn[name]:
            raise DecodeError(f"STORE.{name}", "must be 0", got=insn[name], hint=insn.origin)
    base, end, size = insn["sram_base"], insn["sram_base"] + x * y, state.config.out_elem_bytes
    bits = state.config.inp_bits
    _check_span(insn, "sram_base", base, end, state.config.acc_depth, "out")
    _check_written(state, insn, "out", np.arange(base, end))
    for row in range(y):
        address = (insn["dram_base"] + row * insn["x_stride"]) * size
        view = state.dram.view(address, x * size, "STORE.dram_base", insn.origin)
        view[:] = pack_lanes(state.out[base + row * x : base + (row + 1) * x], bits)
    state.counters.out_bytes += x * y * size


def _nest(
    state: MachineState, insn: Insn, operands: tuple[str, ...]
) -> Iterator[list[NDArray[np.intp]]]:
    """Yield the index of each operand (dst, src, wgt) at every step, in execution order.

    index = uop field + o * factor_out + i * factor_in,
    for o < iter_out, for i < iter_in, for u in [uop_begin, uop_end).

    Nests of many steps come in parts, which bounds the memory that they take.
    """
    begin, end = insn["uop_begin"], insn["uop_end"]
    _check_span(insn, "uop_end", begin, end, state.config.uop_depth, "uop")
    if end > begin:
        _check_written(state, insn, "uop", np.arange(begin, end))
    words = state.uop[begin:end].astype(np.intp)
    for o, i in _parts(insn["iter_out"], insn["iter_in"], words.size):
        indices = []
        for place in uop_layout(state.config):
            name = place.field.name.removesuffix("_idx")
            if name in operands:
                base = words >> place.lsb & ((1 << place.bits) - 1)
                outer = o[:, None, None] * insn[f"{name}_factor_out"]
                nest = base + outer + i[:, None] * insn[f"{name}_factor_in"]
                indices.append(nest.reshape(-1))
        yield indices


def _parts(
    iter_out: int, iter_in: int, uops: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield outer and inner loop indices, in execution order, of at most _PART steps or one."""
    if not iter_out * iter_in * uops:
        return
    inner = max(1, min(iter_in, _PART // uops))
    outer = max(1, _PART // (uops * iter_in))
    for o in range(0, iter_out, outer):
        for i in range(0, iter_in, inner):
            yield (
                np.arange(o, min(o + outer, iter_out), dtype=np.intp),
                np.arange(i, min(i + inner, iter_in), dtype=np.intp),
            )


def _write_out(state: MachineState, dst: NDArray[np.intp]) -> None:
    """Copy the low bits of acc[dst], as many as a lane of out has, to out[dst]."""
    state.out[dst] = wrap_lanes(state.acc[dst], state.config.inp_bits)
    state.written["out"][dst] = True


def _gemm(state: MachineState, insn: Insn) -> None:
    """Accumulate products of inp and wgt elements into acc, or clear acc with reset."""
    for dst, src, wgt in _nest(state, insn, ("dst", "src", "wgt")):
        _gemm_part(state, insn, dst, src, wgt)


def _gemm_part(
    state: MachineState,
    insn: Insn,
    dst: NDArray[np.intp],
    src: NDArray[np.intp],
    wgt: NDArray[np.intp],
) -> None:
    """Execute some steps of a GEMM."""
    config = state.config
    _check_span(insn, "dst", 0, int(dst.max()) + 1, config.acc_depth, "acc")
    if insn["reset"]:
        state.acc[dst] = 0
        state.written["acc"][dst] = True
        state.written["out"][dst] = False
        return
    _check_span(insn, "src", 0, int(src.max()) + 1, config.inp_depth, "inp")
    _check_span(insn, "wgt", 0, int(wgt.max()) + 1, config.wgt_depth, "wgt")
    for pad, index in (("acc", dst), ("inp", src), ("wgt", wgt)):
        _check_written(state, insn, cast("Pad", pad), index)
    # int32 addition is associative modulo 2^32, so steps may be summed by dst.
    order = np.argsort(dst, kind="stable")
    changes = np.flatnonzero(np.diff(dst[order])) + 1
    first, end = np.concatenate([[0], changes]), np.concatenate([changes, [dst.size]])
    target, counts = dst[order[first]], end - first
    for count in sorted(set(counts.tolist())):
        same = counts == count
        steps = order[first[same][:, np.newaxis] + np.arange(count)]  # [elements, count]
        for at in range(0, count, _TERMS // config.block):
            some = steps[:, at : at + _TERMS // config.block]
            _add_products(state, target[same], src[some], wgt[some])
    _write_out(state, target)
    state.counters.gemm_ops += dst.size


def _add_products(
    state: MachineState, dst: NDArray[np.intp], src: NDArray[np.intp], wgt: NDArray[np.intp]
) -> None:
    """Add each row's products to its own acc element: those with the same weights as one product.

    Parameters
    ----------
    dst : intp[elements]
        Distinct.
    src, wgt : intp[elements, count]
        At most _TERMS / block products a sum, so that float32 is exact.
    """
    batch, block = state.config.batch, state.config.block
    left = np.arange(dst.size)
    while left.size:
        weights = wgt[left[0]]
        same = (wgt[left] == weights).all(axis=1)
        rows, left = left[same], left[~same]
        a = state.inp[src[rows]].transpose(0, 2, 1, 3).reshape(rows.size * batch, -1)
        b = state.wgt[weights].transpose(0, 2, 1).reshape(-1, block)  # [products of a sum, block]
        sums = np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(np.int32)
        state.acc[dst[rows]] += sums.reshape(rows.size, batch, block)


def _shift(value: NDArray[np.int32], amount: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return ⌊value / 2^amount⌋ modulo 2^32: a left shift where `amount` is negative."""
    right = value >> np.clip(amount, 0, 31)
    left = np.where(
        amount > -32, value << np.clip(-amount.astype(np.int64), 0, 31).astype(np.int32), 0
    )
    return np.where(amount >= 0, right, left).astype(np.int32)


def _apply(op: AluOp, left: NDArray[np.int32], right: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return op(left, right) for each lane, modulo 2^32."""
    if op == AluOp.MIN:
        return np.minimum(left, right)
    if op == AluOp.MAX:
        return np.maximum(left, right)
    if op == AluOp.ADD:
        return left + right
    if op == AluOp.SHR:
        return _shift(left, right)
    return left * right


def _independent_runs(dst: NDArray[np.intp], src: NDArray[np.intp] | None) -> Iterable[slice]:
    """Split an ALU nest into runs in which no step touches what an earlier one of the run wrote."""
    steps = np.arange(dst.size)
    keys = np.sort(dst * dst.size + steps)  # by element, then by step
    latest = np.full(
        dst.size, -1
    )  # the last step before this one that wrote an element this one touches
    for index in (dst,) if src is None else (dst, src):
        at = np.searchsorted(keys, index * dst.size + steps) - 1
        found = keys[np.maximum(at, 0)]
        hit = (at >= 0) & (found // dst.size == index)
        latest = np.maximum(latest, np.where(hit, found % dst.size, -1))
    begin = 0
    for step_, last in enumerate(latest.tolist()):
        if last >= begin:
            yield slice(begin, step_)
            begin = step_
    yield slice(begin, dst.size)


def _alu(state: MachineState, insn: Insn) -> None:
    """Apply an elementwise operation to acc elements, one step of the nest after the other."""
    try:
        op = AluOp(insn["alu_opcode"])
    except ValueError:
        raise DecodeError(
            "ALU.alu_opcode", "must be in [0, 4]", got=insn["alu_opcode"], hint=insn.origin
        ) from None
    if op == AluOp.MUL and "mul" not in state.config.capabilities:
        raise DecodeError(
            "ALU.alu_opcode",
            "MUL must be a capability of the machine",
            got=sorted(state.config.capabilities),
            hint=insn.origin,
        )
    for dst, src in _nest(state, insn, ("dst", "src")):
        _alu_part(state, insn, op, dst, src)


def _alu_part(
    state: MachineState, insn: Insn, op: AluOp, dst: NDArray[np.intp], src: NDArray[np.intp]
) -> None:
    """Execute some steps of an ALU operation."""
    _check_span(insn, "dst", 0, int(dst.max()) + 1, state.config.acc_depth, "acc")
    _check_written(state, insn, "acc", dst)
    if not insn["use_imm"] or state.strict:
        # The original functional simulator checks src beside an immediate, too.
        _check_span(insn, "src", 0, int(src.max()) + 1, state.config.acc_depth, "acc")
    if not insn["use_imm"]:
        _check_written(state, insn, "acc", src)
    acc, imm = state.acc, np.asarray(insn["imm"], np.int32)
    for run_ in _independent_runs(dst, None if insn["use_imm"] else src):
        left = acc[dst[run_]]
        right = np.broadcast_to(imm, left.shape) if insn["use_imm"] else acc[src[run_]]
        acc[dst[run_]] = _apply(op, left, right)
    _write_out(state, dst)
    state.counters.alu_ops += dst.size


def _finish(state: MachineState, insn: Insn) -> None:
    """Mark the program as finished."""
    del insn
    state.finished = True


_EXECUTE: Final = {
    Opcode.LOAD: _load,
    Opcode.STORE: _store,
    Opcode.GEMM: _gemm,
    Opcode.ALU: _alu,
    Opcode.FINISH: _finish,
}


def step(state: MachineState, insn: Insn) -> None:
    """Execute one instruction: change the scratchpads, the memory and the counters of `state`.

    The reset bit of an ALU instruction is ignored, as in the functional simulator. SHR takes any
    amount; the portable subset has immediate amounts 0..15 only.

    Raises
    ------
    CapacityError
        When an index leaves its scratchpad or an address its DRAM segment.
    DecodeError
        On a memory type or ALU opcode that the machine does not have.
    HazardError
        When `state` is strict and an element is read that was never written, or stored without a
        GEMM or ALU write.
    """
    state.counters.insns += 1
    _EXECUTE[insn.opcode](state, insn)


def run(state: MachineState, insns: Iterable[Insn]) -> MachineState:
    """Execute `insns` in program order, ignoring tokens, and return `state`.

    Raises
    ------
    FlowError
        As `step` does.
    HazardError
        When an instruction follows FINISH, or none is FINISH and `state` is strict.
    """
    for insn in insns:
        if state.finished:
            raise HazardError(
                insn.opcode.name,
                "must not follow FINISH",
                hint=str(insn.origin) or "FINISH ends the stream",
            )
        step(state, insn)
    if state.strict and not state.finished:
        raise HazardError(
            "program", "must end with FINISH", hint="append one that pops a token of the last STORE"
        )
    return state


def run_stream(state: MachineState, data: bytes, *, strict_bits: bool = True) -> MachineState:
    """Decode `data`, 16 bytes per instruction, and execute it in program order.

    Raises
    ------
    DecodeError
        When the bytes are not whole instructions, or a bit that no field covers is set and
        `strict_bits`.
    FlowError
        As `run` does.
    """
    if len(data) % INSN_BYTES:
        raise DecodeError(
            "stream",
            f"must be a multiple of {INSN_BYTES} bytes",
            got=len(data),
            hint="is it truncated?",
        )
    chunks = (data[at : at + INSN_BYTES] for at in range(0, len(data), INSN_BYTES))
    return run(state, (decode(chunk, state.config, strict=strict_bits) for chunk in chunks))
