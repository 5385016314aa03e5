"""Token insertion: order what must be ordered between modules, with as few tokens as go.

The lowering emits instructions in one sequential order that is correct by itself, each with the
memory regions it reads and writes. Every module runs its own instructions in order, so only
dependences *between* modules need tokens: a read after the other module's write, a write after its
read. Tokens travel between neighbours (LOAD ↔ COMPUTE ↔ STORE) through FIFOs.

For every instruction we keep a vector clock: the last instruction of each module that is known to
be done when it starts. A dependence that the clock implies costs nothing. Otherwise the producer
pushes and the consumer pops one token. Both sides' indices only grow, so the k-th pop meets the
k-th push; and since every token goes forward in a sequential order that exists, no set of tokens
can deadlock. STORE → LOAD (a layer reading what the layer before stored) and LOAD → STORE go
through COMPUTE: a COMPUTE instruction that already knows, or a no-op, passes the token on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from vta_config.isa import Insn, Memory, Module, Opcode
from vta_config.origin import Origin, Purpose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Space = Literal["inp", "wgt", "acc", "dram"]
#: The module that writes a space and the module that reads it, as far as they differ (COMPUTE also
#: reads what it writes).
_WRITER_READER: Final[dict[Space, tuple[Module, Module]]] = {
    "inp": (Module.LOAD, Module.COMPUTE),
    "wgt": (Module.LOAD, Module.COMPUTE),
    "acc": (Module.COMPUTE, Module.STORE),
    "dram": (Module.STORE, Module.LOAD),
}


class Region(NamedTuple):
    """Elements of one memory: `rows` runs of `columns`, `stride` apart, from `start`.

    DRAM counts inp elements from the arena's start; other spaces count their own elements.
    """

    space: Space
    start: int
    columns: int
    rows: int = 1
    stride: int = 0

    def indices(self) -> slice | NDArray[np.int64]:
        """Return what selects these elements in an array over the space."""
        if self.rows == 1 or self.stride == self.columns:
            return slice(self.start, self.start + self.rows * self.columns)
        rows = self.start + self.stride * np.arange(self.rows)[:, None]
        return (rows + np.arange(self.columns)).ravel()

    def overlaps(self, other: Region) -> bool:
        """Tell whether two regions may share an element (conservative for strided ones)."""
        end = self.start + (self.rows - 1) * self.stride + self.columns
        other_end = other.start + (other.rows - 1) * other.stride + other.columns
        return self.space == other.space and self.start < other_end and other.start < end


@dataclass(frozen=True, slots=True)
class Emitted:
    """An instruction and the regions that other modules could race for."""

    insn: Insn
    reads: tuple[Region, ...] = ()
    writes: tuple[Region, ...] = ()
    #: Micro-ops (dst, src, wgt) that uop allocation places: it gives the instruction uop_begin
    #: and uop_end.
    uops: tuple[tuple[int, int, int], ...] = ()


@dataclass(slots=True)
class _Node:
    """An instruction with its tokens and the clock that holds once it is done."""

    insn: Insn
    module: Module
    index: int
    clock: list[int] = field(default_factory=lambda: [-1, -1, -1])
    tokens: dict[str, int] = field(default_factory=dict)

    def finish(self) -> Insn:
        return self.insn.having(**self.tokens) if self.tokens else self.insn


def no_op(module: Module, origin: Origin) -> Insn:
    """Return the instruction that only moves tokens on `module`, in its original form."""
    opcode = Opcode.STORE if module == Module.STORE else Opcode.LOAD
    memory = {Module.LOAD: Memory.INP, Module.COMPUTE: Memory.UOP, Module.STORE: Memory.OUT}[module]
    return Insn(opcode, {"memory_type": int(memory)}, origin)


class TokenInserter:
    """Insert tokens into a sequential program.

    Parameters
    ----------
    depths : dict[Space, int]
        Elements of each space.
    """

    def __init__(self, depths: dict[Space, int]) -> None:
        """Start with memories that nobody wrote or read."""
        self._last_write = {space: np.full(depth, -1, np.int32) for space, depth in depths.items()}
        self._last_read = {space: np.full(depth, -1, np.int32) for space, depth in depths.items()}
        self._queues: dict[Module, list[_Node]] = {module: [] for module in Module}
        self._program: list[_Node] = []
        #: Index, in its queue, of the last instruction that pushed towards a neighbour.
        self._last_push = dict.fromkeys([(a, b) for a in Module for b in Module], -1)

    def insert(self, program: Sequence[Emitted]) -> list[Insn]:
        """Return the program with tokens, no-ops that pass them on, and FINISH.

        FINISH waits for the last STORE, so that nothing runs after it; pushes and pops balance.
        """
        for emitted in program:
            self._add(emitted)
        finish = self._append(Insn(Opcode.FINISH, {}, Origin(purpose=Purpose.FINISH)))
        for module in (Module.STORE, Module.LOAD):
            self._require(finish, module, len(self._queues[module]) - 1)
        return [node.finish() for node in self._program]

    def _append(self, insn: Insn) -> _Node:
        module = insn.module
        queue = self._queues[module]
        node = _Node(insn, module, len(queue), list(queue[-1].clock) if queue else [-1, -1, -1])
        node.clock[module] = node.index
        queue.append(node)
        self._program.append(node)
        return node

    def _add(self, emitted: Emitted) -> None:
        module = emitted.insn.module
        needs = [-1, -1, -1]
        selected = (
            [(r, r.indices()) for r in emitted.reads],
            [(r, r.indices()) for r in emitted.writes],
        )
        for region, where in selected[0]:
            writer, reader = _WRITER_READER[region.space]
            if module == reader:
                needs[writer] = max(needs[writer], int(self._last_write[region.space][where].max()))
        for region, where in selected[1]:
            writer, reader = _WRITER_READER[region.space]
            assert module == writer
            needs[reader] = max(needs[reader], int(self._last_read[region.space][where].max()))
        # LOAD and STORE hear of each other through COMPUTE, with the one token that they may pop.
        far = Module(2 - module)
        if far != module:
            needs[Module.COMPUTE] = max(
                needs[Module.COMPUTE], self._detour(far, module, needs[far])
            )
            needs[far] = -1
        node = self._append(emitted.insn)
        for other in Module:
            self._require(node, other, needs[other])
        for table, regions in ((self._last_read, selected[0]), (self._last_write, selected[1])):
            for region, where in regions:
                table[region.space][where] = node.index

    def _clock_of(self, module: Module, other: Module) -> int:
        """Return what the last instruction of `module` knows of `other`."""
        queue = self._queues[module]
        return queue[-1].clock[other] if queue else -1

    def _detour(self, producer: Module, consumer: Module, index: int) -> int:
        """Return the COMPUTE instruction that tells `consumer` of `producer`'s `index`, or -1."""
        if index <= self._clock_of(consumer, producer):
            return -1
        relay = self._relay(producer, consumer, index)
        if relay is None:
            origin = self._queues[producer][index].insn.origin
            node = self._append(no_op(Module.COMPUTE, origin.to(Purpose.WAIT)))
            self._require(node, producer, index)
            relay = node.index
        return relay

    def _relay(self, producer: Module, consumer: Module, index: int) -> int | None:
        """Return the first COMPUTE instruction that knows `index` and can tell `consumer`."""
        queue = self._queues[Module.COMPUTE]
        first = (
            max(self._last_push[Module.COMPUTE, consumer], self._clock_of(consumer, Module.COMPUTE))
            + 1
        )
        if first >= len(queue) or queue[-1].clock[producer] < index:
            return None
        low, high = first, len(queue) - 1
        while low < high:  # clocks only grow along a queue
            middle = (low + high) // 2
            low, high = (
                (low, middle) if queue[middle].clock[producer] >= index else (middle + 1, high)
            )
        return low

    def _require(self, node: _Node, producer: Module, index: int) -> None:
        """Make `node` start after instruction `index` of `producer` is done."""
        if producer == node.module or index <= node.clock[producer]:
            return
        source = self._queues[producer][index]
        push, pop = (
            ("push_next", "pop_prev") if producer < node.module else ("push_prev", "pop_next")
        )
        assert push not in source.tokens and index > self._last_push[producer, node.module]
        source.tokens[push] = 1
        node.tokens[pop] = 1
        self._last_push[producer, node.module] = index
        node.clock = [max(a, b) for a, b in zip(node.clock, source.clock, strict=True)]
