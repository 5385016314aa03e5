"""A slow second opinion on the cycle model: every register of the machine, cycle by cycle.

`flow/sim/core/timing.cc` jumps from event to event. This walks through the cycles and keeps the
state machines, queues and pipeline registers that docs/timing.md describes, in Python, sharing
nothing with it. `simulate` gives (start, done) of every instruction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from vta_config.hardware import VTAConfig
from vta_config.isa import Insn, Memory, Opcode
from vta_config.semantics import dram_elem_bytes

LATENCY, TAGS, QUEUE, STAGE = 16, 16, 512, 2
FETCH, CLIENT = 0, {Memory.UOP: 1, Memory.INP: 2, Memory.WGT: 3, Memory.ACC: 4}
LOAD, COMPUTE, STORE = range(3)


def module_of(insn: Insn) -> int:
    if insn.opcode == Opcode.STORE:
        return STORE
    inp_wgt = insn.opcode == Opcode.LOAD and insn["memory_type"] in (Memory.INP, Memory.WGT)
    return LOAD if inp_wgt else COMPUTE


def bursts(
    address: int, size: int, stride: int, rows: int, config: VTAConfig
) -> Iterator[tuple[int, bool]]:
    """Yield (beats, ends a row), reading whole bus words, never across a burst's boundary."""
    bus = config.bus_bytes
    for row in range(rows):
        at = address + row * stride
        word, end = at // bus, -(-(at + size) // bus)
        while word < end:
            stop = min(end, (word // config.burst_beats + 1) * config.burst_beats)
            yield stop - word, stop == end
            word = stop


@dataclass
class Memory5:
    """VME and the memory behind it: five command queues of one, then a FIFO of requests."""

    slots: list[int | None] = field(default_factory=lambda: [None] * 5)  # beats of a command
    fresh: list[bool] = field(default_factory=lambda: [False] * 5)  # entered in this cycle
    free_tags: int = TAGS
    queue: deque[tuple[int, int]] = field(default_factory=deque)  # (client, beats)
    arrived: tuple[int, int] | None = None  # enters the queue at the end of the cycle
    counter: int = 0
    reading: bool = False
    left: int = 0  # beats after the one on the wires
    source: int = -1  # client whose beat is on the wires, -1 none
    behind: int = 0  # beats the memory still has to put on the wires
    behind_client: int = -1
    lookup: int = -1  # client whose beat is in the tag look-up

    def offer(self, client: int, beats: int) -> bool:
        """A client shows a command; it enters when the slot was empty."""
        if self.slots[client] is not None:
            return False
        self.slots[client], self.fresh[client] = beats, True
        return True

    def step(self) -> None:
        """End a cycle, after the clients have offered; `lookup` was visible to them in it."""
        last = self.source >= 0 and self.left == 0
        # grant
        grant = None
        for client in range(5):
            if self.slots[client] is not None and not self.fresh[client]:
                grant = client
                break
        if grant is not None and (self.free_tags == 0 or last):
            grant = None
        # the memory takes the head of its queue up
        take = bool(self.queue) and not self.reading and self.counter == LATENCY
        valid = bool(self.queue)
        next_reading, next_left = self.reading, self.left
        if self.reading and self.source >= 0 and self.left != 0:
            next_left = self.left - 1
        if self.reading and self.source >= 0 and self.left == 1:
            next_reading = False
        if take:
            client, beats = self.queue.popleft()
            assert self.behind == 0
            self.behind, self.behind_client = beats, client
            next_left = beats - 1
            next_reading = beats > 1
        next_counter = 0 if not valid else min(self.counter + 1, LATENCY)
        # registers
        self.lookup = self.source
        self.source = self.behind_client if self.behind else -1
        if self.behind:
            self.behind -= 1
        self.reading, self.left, self.counter = next_reading, next_left, next_counter
        if last:
            self.free_tags += 1
        elif grant is not None:
            self.free_tags -= 1
        if grant is not None:
            beats = self.slots[grant]
            assert beats is not None
            self.queue.append((grant, beats))
            self.slots[grant] = None
        self.fresh = [False] * 5


class Pads:
    """ZeroPadding: one element a cycle in which no data is written."""

    def __init__(self, insn: Insn) -> None:
        left, right, top, bottom = (insn[f] for f in ("x_pad_0", "x_pad_1", "y_pad_0", "y_pad_1"))
        width = left + insn["x_size"] + right
        steps: list[bool] = [True] * (top * width)  # True: writes
        for _ in range(insn["y_size"]):
            if left + right:
                steps += [True] * (left + right)
            elif bottom:
                steps.append(False)
        self.steps = deque(steps + [True] * (bottom * width))

    def step(self, data: bool) -> None:
        if self.steps and not (self.steps[0] and data):
            self.steps.popleft()


class Loader:
    """TensorLoad: commands, data counter, padding."""

    def __init__(self, insn: Insn, config: VTAConfig, memory: Memory5) -> None:
        size = dram_elem_bytes(Memory(insn["memory_type"]), config)
        bus = config.bus_bytes
        self.narrow = size > bus
        self.client, self.memory = CLIENT[Memory(insn["memory_type"])], memory
        self.commands = deque(
            beats
            for beats, _ in bursts(
                insn["dram_base"] * size,
                insn["x_size"] * size,
                insn["x_stride"] * size,
                insn["y_size"],
                config,
            )
        )
        self.rows_above = insn["y_pad_0"]
        self.in_flight = 0
        self.age = 0
        self.pipe = False
        self.pads = Pads(insn)
        self.pads_from = 2 if self.narrow else 1

    def step(self) -> bool:
        """A busy cycle; True in the one that is done."""
        self.age += 1
        data = self.memory.lookup == self.client
        fire = self.pipe if self.narrow else data
        done = (
            not self.commands
            and self.in_flight == 0
            and not (self.pads.steps if self.age >= self.pads_from else self.age == 1)
        )
        sent = 0
        if self.rows_above:
            self.rows_above -= 1
        elif self.commands and self.memory.offer(self.client, self.commands[0]):
            sent = self.commands.popleft()
        if self.age >= self.pads_from:
            self.pads.step(fire)
        self.in_flight += sent - fire
        self.pipe = data
        return done


class Nest:
    """GEMM and ALU: an index generator and four stages behind it."""

    def __init__(self, insn: Insn) -> None:
        steps = (insn["uop_end"] - insn["uop_begin"]) * insn["iter_out"] * insn["iter_in"]
        double = insn.opcode == Opcode.ALU and not insn["use_imm"]
        self.delay = 1  # the start is registered once
        self.valid = deque([False, True] * steps if double else [True] * steps)
        self.pipe = deque([False] * 4)
        self.in_flight = 0

    def step(self) -> bool:
        if self.delay:
            self.delay -= 1
            return False
        waiting = not self.valid
        done = waiting and self.in_flight == 0
        enters = self.valid.popleft() if self.valid else False
        leaves = self.pipe.popleft()
        self.pipe.append(enters)
        self.in_flight += enters - leaves
        return done


class Storer:
    """TensorStore with the write side of VME and of the memory."""

    def __init__(self, insn: Insn, config: VTAConfig) -> None:
        size, bus = config.out_elem_bytes, config.bus_bytes
        wide = bus >= size
        self.words = 0 if wide else config.block * config.inp_bits // 8 // bus
        self.bursts = deque(
            beats
            for beats, _ in bursts(
                insn["dram_base"] * size,
                insn["x_size"] * size,
                insn["x_stride"] * size,
                insn["y_size"],
                config,
            )
        )
        self.state = "cmd"
        self.vme = self.memory = "idle"
        self.beat = 0

    def step(self) -> bool:
        state, vme, memory = self.state, self.vme, self.memory
        if state == "cmd" and vme == "idle":
            self.state, self.vme, self.beat = "data", "address", 0
        if vme == "address":
            if memory == "idle":
                self.memory = "address"
            elif memory == "address":
                self.memory = self.vme = "data"
        if state == "data" and vme == "data":
            self.beat += 1
            if self.beat == self.bursts[0]:
                self.state, self.vme, self.memory = "ack", "response", "response"
            elif self.words and self.beat % self.words == 0:
                self.state = "read"
        if state == "read":
            self.state = "data"
        if state == "ack":
            self.bursts.popleft()
            self.state, self.vme, self.memory = "cmd", "idle", "idle"
            return not self.bursts
        return False


class Once:
    """A no-op or FINISH."""

    def step(self) -> bool:
        return True


class Fetch:
    """Chunks of instructions, read and then dispatched."""

    def __init__(self, count: int, config: VTAConfig, memory: Memory5, address: int) -> None:
        self.memory, self.count = memory, count
        self.wide = config.bus_bits >= 128
        self.config = config
        self.address = address if self.wide else 0
        beats = config.burst_beats
        self.chunk = beats if self.wide else max(beats * config.bus_bytes // 16, 1)
        self.asked, self.at = 0, 0
        self.state, self.wait = "read", 0
        self.beats = self.missing = 0
        self.first = True
        self.queue: deque[int] = deque()
        self.pipe: deque[int] = deque()  # of the wide unit, between its buffer and the queues
        self._begin()

    def _begin(self) -> None:
        self.have = min(self.chunk, self.count - self.asked)
        # The narrow unit asks for a chunk at once, wherever it lies.
        at = self.address + self.asked * 16 if self.wide else 0
        self.commands = deque(b for b, _ in bursts(at, self.have * 16, 0, 1, self.config))
        self.missing = sum(self.commands)
        # The wide unit spends the first cycle of a chunk but the first on its start signal.
        self.wait = 1 if self.wide and not self.first else 0
        self.first = False
        self.state = "read"
        self.seen = False

    def step(self, rooms: list[bool], module_of_index: list[int]) -> int | None:
        """A cycle; the instruction put into its module's queue in it."""
        out = None
        data = self.memory.lookup == FETCH
        full = len(self.pipe) == STAGE
        if self.pipe and rooms[module_of_index[self.pipe[0]]]:
            out = self.pipe.popleft()
        if self.state == "read":
            if self.wait:
                self.wait -= 1
            elif self.commands and self.memory.offer(FETCH, self.commands[0]):
                self.commands.popleft()
            fire = self.seen if self.wide else data
            if self.wide and self.missing == 0:
                self._fill()
            self.missing -= fire
            if not self.wide and self.missing == 0:
                self._fill()
            self.seen = data
        elif not self.queue:
            if self.asked < self.count:
                self._begin()
        elif self.wide:
            if not full:
                self.pipe.append(self.queue.popleft())
        elif rooms[module_of_index[self.queue[0]]]:
            out = self.queue.popleft()
        return out

    def _fill(self) -> None:
        self.state = "drain"
        self.queue.extend(range(self.asked, self.asked + self.have))
        self.asked += self.have


def simulate(
    insns: list[Insn],
    config: VTAConfig,
    limit: int = 200_000,
    queue: int = QUEUE,
    stream_address: int = 0,
) -> list[tuple[int, int]]:
    """Return (start, done) of every instruction; cycle 0 is the launch."""
    memory = Memory5()
    fetch = Fetch(len(insns), config, memory, stream_address)
    modules = [module_of(insn) for insn in insns]
    queues: list[deque[int]] = [deque() for _ in range(3)]
    unit: list[Loader | Nest | Storer | Once | None] = [None] * 3
    tokens = {(LOAD, COMPUTE): 0, (COMPUTE, LOAD): 0, (COMPUTE, STORE): 0, (STORE, COMPUTE): 0}
    times = [(-1, -1)] * len(insns)
    finished = 0
    for cycle in range(1, limit):
        rooms = [len(q) < queue for q in queues]
        posts = []
        leaving = []
        for m in range(3):
            if not queues[m]:
                continue
            index = queues[m][0]
            insn = insns[index]
            running = unit[m]
            if running is None:
                pops = [(m - 1, m)] * insn["pop_prev"] + [(m + 1, m)] * insn["pop_next"]
                if all(tokens[p] for p in pops):
                    for p in pops:
                        tokens[p] -= 1
                    times[index] = (cycle, -1)
                    unit[m] = _unit(insn, config, memory)
            elif running.step():
                times[index] = (times[index][0], cycle)
                posts += [(m, m - 1)] * insn["push_prev"] + [(m, m + 1)] * insn["push_next"]
                leaving.append(m)
                unit[m] = None
                finished += 1
        arrived = fetch.step(rooms, modules)
        memory.step()
        for m in leaving:
            queues[m].popleft()
        for p in posts:
            tokens[p] += 1
        if arrived is not None:
            queues[modules[arrived]].append(arrived)
        if finished == len(insns):
            return times
    raise AssertionError(f"nothing ends after {limit} cycles: {times}")


def _unit(insn: Insn, config: VTAConfig, memory: Memory5) -> Loader | Nest | Storer | Once:
    if insn.opcode in (Opcode.GEMM, Opcode.ALU):
        return Nest(insn)
    if insn.opcode == Opcode.FINISH or insn["x_size"] == 0:
        return Once()
    if insn.opcode == Opcode.STORE:
        return Storer(insn, config)
    return Loader(insn, config, memory)
