"""The order in which instructions are issued: LOAD ahead of COMPUTE, also across layers.

Work comes as *jobs*: the loads of one chunk and the GEMM, ALU and STORE instructions that use it.
The loads of a job are issued before the body of the job ahead. Where that body takes longer, or an
input must wait for what the layer before stores, LOAD has time left: weights of the layers that
follow are loaded then, as soon as nothing before them needs their place, and as long before as what
is to be loaded until then takes. A load for which the time is too short is split. So a layer that
loads more than it computes begins with weights that are there.

Within a layer, loads into the few slots of residuals wait for each other at the end of a tile. The
next tile's weights, whose place is free by then, are loaded before.

Every order made here is correct by itself: a load moves only across what does not touch its place.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Final

import numpy as np

from flow.compiler.tokens import Region
from flow.program.layouts import blocks
from vta_config.isa import Memory, Module, Opcode
from vta_config.semantics import dram_elem_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flow.compiler.tokens import Emitted
    from vta_config.hardware import VTAConfig
    from vta_config.timing import TimingProfile

#: Weights of a layer that are looked at to find some whose place is free.
LOOKAHEAD_LOADS: Final = 32
#: The part of the time of later bodies in which LOAD is taken to load for those behind them. Layers
#: begin with waiting for inputs, so it is not all of it.
LATER_SHARE: Final = 0.6
#: Cycles of weights that are loaded ahead in any case.
AHEAD_CYCLES: Final = 1000
#: Cycles of the least part of a load that is split: it costs the latency of one more.
PART_CYCLES: Final = 150


@dataclass(slots=True)
class Job:
    """The loads of a chunk, and what is computed and stored with it."""

    #: Its name, any text; None for what works for no layer.
    layer: str | None = None
    loads: list[Emitted] = field(default_factory=list)
    #: Loads into a slot that the job ahead still uses.
    late_loads: list[Emitted] = field(default_factory=list)
    body: list[Emitted] = field(default_factory=list)

    def load_cycles(self, config: VTAConfig) -> int:
        """Return how long its loads take LOAD."""
        return sum(_load_cycles(e, config) for e in (*self.loads, *self.late_loads))

    def body_cycles(self, config: VTAConfig) -> int:
        """Return how long its body takes COMPUTE."""
        return sum(_compute_cycles(e, config.profile) for e in self.body)


def ordered(jobs: Sequence[Job], config: VTAConfig) -> Iterator[tuple[str | None, Emitted]]:
    """Yield (layer, instruction) of all jobs in the order of issue."""
    ahead, before = Job(), Job()
    places = _Places(jobs, config)
    weights = _Weights(jobs, config, places)
    lead = _lead_cycles(jobs, config)
    wanted = _wanted_cycles(jobs, config)
    times = _Times()
    for index, job in enumerate(jobs):
        loads = [e for e in job.loads if id(e) not in weights.moved]
        late = [e for e in loads if _reads_of(e, ahead)]
        waiting = [e for e in loads if e not in late and _reads_of(e, before)]
        late += [e for e in job.late_loads if id(e) not in weights.moved]
        cycles = sum(_load_cycles(e, config) for e in (*loads, *job.late_loads))
        free = max((times.free(places.used[id(e)]) for e in (*loads, *late)), default=0)
        # Loads of later layers begin no sooner than the body of the job before the one ahead ends:
        # loads of this layer may be sooner due than estimated.
        begin = max(times.loaded, times.free(index - 2))
        while (load := weights.own(index)) is not None:
            done = times.done(load)
            if max(done, free) + cycles > times.computed:
                break
            times.loaded = done
            yield weights.take(load)
        times.loaded = max(times.loaded, free) + cycles
        times.compute(job, config)
        yield from ((job.layer, e) for e in loads if e not in late and e not in waiting)
        begin = max(begin, times.loaded)
        for load in weights.later(index, wanted[index]):
            spare = times.computed - lead[index] - times.done(load, begin)
            part = load if spare >= 0 else weights.split(load, load.cycles + spare)
            if part is None:
                break
            times.loaded = begin = times.done(part, begin)
            yield weights.take_ahead(part)
        yield from ((job.layer, e) for e in waiting)
        yield from ((ahead.layer, e) for e in ahead.body)
        yield from ((job.layer, e) for e in late)
        ahead, before = job, ahead
    yield from ((ahead.layer, e) for e in ahead.body)


@dataclass(slots=True)
class _Times:
    """When modules would be done with what was issued, in estimated cycles.

    Parameters
    ----------
    loaded, computed : int
        LOAD, and COMPUTE.
    ends : list[int]
        COMPUTE with the body of each job.
    """

    loaded: int = 0
    computed: int = 0
    ends: list[int] = field(default_factory=list)

    def compute(self, job: Job, config: VTAConfig) -> None:
        """Add the body of a job, which waits for its loads as soon as it reads something."""
        early = sum(
            _compute_cycles(e, config.profile) for e in takewhile(lambda e: not e.reads, job.body)
        )
        rest = job.body_cycles(config) - early
        self.computed = max(self.computed + early, self.loaded) + rest
        self.ends.append(self.computed)

    def free(self, used: int) -> int:
        """Return when a place is free that job `used` was the last to use, none if negative."""
        return self.ends[used] if used >= 0 else 0

    def done(self, load: _Load, begin: int = 0) -> int:
        """Return when LOAD would be done with a load that it begins next, not before `begin`."""
        return max(self.loaded, begin, self.free(load.used)) + load.cycles


def _lead_cycles(jobs: Sequence[Job], config: VTAConfig) -> list[int]:
    """Return how long before each job's body is done LOAD must turn to the next job.

    Then none of the layer's later jobs waits: the loads up to it, less the bodies before it.
    """
    lead = [0] * len(jobs)
    for index in range(len(jobs) - 2, -1, -1):
        after = jobs[index + 1]
        lead[index] = after.load_cycles(config)
        if after.layer == jobs[index].layer:
            lead[index] += max(0, lead[index + 1] - after.body_cycles(config))
    return lead


def _wanted_cycles(jobs: Sequence[Job], config: VTAConfig) -> list[int]:
    """Return the cycles of later jobs' loads that should be done before each job's body is."""
    wanted = [0.0] * len(jobs)
    for index in range(len(jobs) - 2, -1, -1):
        after = jobs[index + 1]
        later = wanted[index + 1] - LATER_SHARE * after.body_cycles(config)
        wanted[index] = after.load_cycles(config) + max(0.0, later)
    return [AHEAD_CYCLES + round(cycles) for cycles in wanted]


class _Places:
    """For each load, by id, the last job before it that used its place; -2 where none did."""

    def __init__(self, jobs: Sequence[Job], config: VTAConfig) -> None:
        """Follow all jobs."""
        self.used: dict[int, int] = {}
        depths = {"inp": config.inp_depth, "wgt": config.wgt_depth}
        touched = {space: np.full(depth, -2, np.int64) for space, depth in depths.items()}
        for index, job in enumerate(jobs):
            for emitted in (*job.loads, *job.late_loads):
                (region,) = emitted.writes
                at = region.indices()
                self.used[id(emitted)] = int(touched[region.space][at].max())
                touched[region.space][at] = index
            for region in (r for e in job.body for r in e.reads if r.space in touched):
                touched[region.space][region.indices()] = index


@dataclass(frozen=True, slots=True, eq=False)
class _Load:
    """A load of weights, and the last job that used its place before."""

    job: int
    layer: str | None
    emitted: Emitted
    cycles: int
    used: int

    @property
    def earliest(self) -> int:
        """The first job before whose predecessor's body it may be issued.

        The body of job j is issued with job j + 1.
        """
        return self.used + 2


class _Weights:
    """The loads of weights that may be issued before their turn, by layer."""

    def __init__(self, jobs: Sequence[Job], config: VTAConfig, places: _Places) -> None:
        """Find from where on each load's place is its own."""
        self._jobs, self._config, self._places = jobs, config, places
        self.moved: set[int] = set()
        #: Cycles of what was taken for layers that are still to come, of each job and of all.
        self._taken, self._ahead = [0] * len(jobs), 0
        self._layer_of: list[int] = []
        self._loads: list[deque[_Load]] = []
        for index, job in enumerate(jobs):
            if index == 0 or job.layer != jobs[index - 1].layer:
                self._loads.append(deque())
            self._layer_of.append(len(self._loads) - 1)
            for emitted in (*job.loads, *job.late_loads):
                # What a layer makes waits for it.
                if emitted.writes[0].space == "wgt" and not emitted.reads:
                    cycles, used = _load_cycles(emitted, config), places.used[id(emitted)]
                    self._loads[-1].append(_Load(index, job.layer, emitted, cycles, used))

    def own(self, index: int) -> _Load | None:
        """Return the next load of the same layer that may be issued before those of job `index`."""
        loads = self._loads[self._layer_of[index]]
        while loads and loads[0].job <= index:
            loads.popleft()
        return loads[0] if loads and loads[0].earliest <= index else None

    def later(self, index: int, wanted: int) -> Iterator[_Load]:
        """Yield loads of later layers that may be issued with job `index`; take each or stop.

        Only until what was taken for later layers takes `wanted` cycles.
        """
        self._ahead -= self._taken[index]
        for loads in self._loads[self._layer_of[index] + 1 :]:
            while loads and self._ahead < wanted:
                some = (loads[i] for i in range(min(len(loads), LOOKAHEAD_LOADS)))
                load = next((load for load in some if load.earliest <= index), None)
                if load is None:
                    break
                yield load

    def split(self, load: _Load, cycles: int) -> _Load | None:
        """Cut a load in parts; return the first, of at most `cycles`, or None if not worth it."""
        insn = load.emitted.insn
        rows, columns, stride = insn["y_size"], insn["x_size"], insn["x_stride"]
        beats = blocks(dram_elem_bytes(Memory.WGT, self._config), self._config.bus_bytes)
        elems = (cycles - self._config.profile.load_cycles(1, 0, 1)) // beats
        if cycles < PART_CYCLES or not 0 < elems < rows * columns:
            return None
        if whole := elems // columns:
            cuts = [(0, whole, columns), (whole * columns, rows - whole, columns)]
        else:
            cuts = [(0, 1, elems), (elems, 1, columns - elems), (columns, rows - 1, columns)]
        parts = []
        for start, height, width in cuts:
            if not height:
                continue
            row, column = divmod(start, columns)
            part = insn.having(
                sram_base=insn["sram_base"] + start,
                dram_base=insn["dram_base"] + row * stride + column,
                y_size=height,
                x_size=width,
                x_stride=stride if height > 1 else width,
            )
            place = Region("wgt", part["sram_base"], height * width)
            emitted = replace(load.emitted, insn=part, writes=(place,))
            self._places.used[id(emitted)] = load.used
            part_cycles = _load_cycles(emitted, self._config)
            parts.append(replace(load, emitted=emitted, cycles=part_cycles))
        if parts[0].cycles > cycles:
            return None
        job, own = self._jobs[load.job], [part.emitted for part in parts]
        for of in (job.loads, job.late_loads):
            of[:] = [e for one in of for e in (own if one is load.emitted else (one,))]
        loads = self._loads[self._layer_of[load.job]]
        at = loads.index(load)
        del loads[at]
        for each in reversed(parts):
            loads.insert(at, each)
        return parts[0]

    def take_ahead(self, load: _Load) -> tuple[str | None, Emitted]:
        """Take a load of a later layer; return its layer and itself."""
        self._taken[load.job] += load.cycles
        self._ahead += load.cycles
        return self.take(load)

    def take(self, load: _Load) -> tuple[str | None, Emitted]:
        """Take a load out of its turn; return its layer and itself."""
        self._loads[self._layer_of[load.job]].remove(load)
        self.moved.add(id(load.emitted))
        return load.layer, load.emitted


def _reads_of(load: Emitted, job: Job) -> bool:
    """Tell whether a load reads what a job stores."""
    stored = (r for e in job.body for r in e.writes if r.space == "dram")
    return bool(load.reads) and any(r.overlaps(s) for s in stored for r in load.reads)


def _load_cycles(emitted: Emitted, config: VTAConfig) -> int:
    insn = emitted.insn
    row_bytes = insn["x_size"] * dram_elem_bytes(Memory(insn["memory_type"]), config)
    beats = blocks(row_bytes, config.bus_bytes)
    return config.profile.load_cycles(insn["y_size"], beats, config.burst_beats)


def _compute_cycles(emitted: Emitted, timing: TimingProfile) -> int:
    insn = emitted.insn
    if insn.opcode not in (Opcode.GEMM, Opcode.ALU):
        return timing.load_cycles(0, 0, 1) if insn.module == Module.COMPUTE else 0
    alu, reset = insn.opcode == Opcode.ALU, bool(insn["reset"])
    # An estimate: most ALU steps have an immediate.
    each = timing.step_cycles(alu=alu, reset=reset, immediate=True)
    steps = insn["iter_out"] * insn["iter_in"] * len(emitted.uops)
    return timing.overhead(alu=alu, reset=reset) + each * steps


def in_layers(stream: Iterator[tuple[str | None, Emitted]]) -> Iterator[list[Emitted]]:
    """Cut the stream before the first instruction with micro-ops of each layer."""
    group: list[Emitted] = []
    current: str | None = None
    for name, emitted in stream:
        if emitted.uops and name != current:
            if current is not None:
                yield group
                group = []
            current = name
        group.append(emitted)
    yield group
