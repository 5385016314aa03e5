"""A timed program as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing show.

The Trace Event Format: one complete event ("ph": "X") per layer, on the track at the top; one per
chunk of instructions that FETCH reads; one per instruction, on the track of its module, with its
origin; one per wait, with what is waited for. The process is named after machine and program. Times
are microseconds at the machine's clock; the cycles are in the arguments.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Protocol

from flow.sim.timing_report import MODULES, module_of
from flow.system.files import write_atomic
from vta_config.isa import Memory, Opcode
from vta_config.text import shown_name

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from flow.program.program import Program
    from flow.sim.timing_report import TimingResult
    from vta_config.isa import Insn

#: From the top. The thread that has its process's number stands first in both viewers.
_TRACKS: Final = ("layers", "FETCH", *MODULES)
_PROCESS: Final = 1
_LAYERS, _FETCH, _FIRST_MODULE = 1, 2, 3
#: Who posts the tokens that a module's `prev` and `next` stand for.
_NEIGHBOURS: Final = (("", "COMPUTE"), ("LOAD", "STORE"), ("COMPUTE", ""))


class Timed(Protocol):
    """A timed program: `flow.sim.tsim.TSim`."""

    program: Program
    table: dict[str, NDArray[np.int64]]

    @property
    def result(self) -> TimingResult:
        """What the timing says."""
        ...


def title(insn: Insn) -> str:
    """Return what a trace calls an instruction: "LOAD WGT", "GEMM reset", "ALU"."""
    name = insn.opcode.name
    if insn.opcode in (Opcode.LOAD, Opcode.STORE):
        return f"{name} {Memory(insn['memory_type']).name}" if insn["x_size"] else f"{name} no-op"
    return f"{name} reset" if insn.opcode == Opcode.GEMM and insn["reset"] else name


def trace_events(sim: Timed) -> list[dict[str, Any]]:
    """Return the events of a timed program."""
    micro = 1e6 / sim.program.config.clock_hz
    columns = {name: values.tolist() for name, values in sim.table.items()}
    config = sim.program.config
    about = f"VTA {shown_name(config.name)}, {config.clock_hz / 1e6:g} MHz: {sim.program.symbol}"
    events = [_named("process_name", _LAYERS, name=about)]
    for track, name in enumerate(_TRACKS, start=_LAYERS):
        events.append(_named("thread_name", track, name=name))
        events.append(_named("thread_sort_index", track, sort_index=track))

    def event(track: int, name: str, kind: str, begin: int, end: int, **arguments: Any) -> None:
        events.append(
            {
                "ph": "X",
                "pid": _PROCESS,
                "tid": track,
                "name": name,
                "cat": kind,
                "ts": begin * micro,
                "dur": (end - begin) * micro,
                "args": {"cycle": begin, "cycles": end - begin, **arguments},
            }
        )

    insns = sim.program.insns
    for i, insn in enumerate(insns):
        start, done = columns["start"][i], columns["done"][i]
        module = module_of(insn)
        waits = (
            ("FETCH", columns["wait_fetch"][i]),
            (_NEIGHBOURS[module][0], columns["wait_prev"][i]),
            (_NEIGHBOURS[module][1], columns["wait_next"][i]),
        )
        at = start - sum(cycles for _, cycles in waits)
        for who, cycles in waits:
            if cycles:
                event(module + _FIRST_MODULE, f"wait for {who}", "wait", at, at + cycles, insn=i)
            at += cycles
        event(
            module + _FIRST_MODULE,
            title(insn),
            "insn",
            start,
            done + 1,
            insn=i,
            origin=str(insn.origin),
            purpose=insn.origin.purpose,
            beats=columns["beats"][i],
        )
    last = -1
    for i in range(len(insns)):
        if columns["request"][i] != last:
            last = columns["request"][i]
            chunk = [k for k in range(i, min(i + 16, len(insns))) if columns["request"][k] == last]
            end = columns["dispatch"][chunk[-1]] + 1
            event(_FETCH, f"insns {i} to {chunk[-1]}", "fetch", last, end)
    at = 0
    for layer in sim.result.layers:
        event(_LAYERS, shown_name(layer.name), "layer", at, at + layer.cycles, bound=layer.bound)
        at += layer.cycles
    return events


def _named(kind: str, track: int, **arguments: Any) -> dict[str, Any]:
    """Return metadata of a track, or of the process."""
    return {"ph": "M", "pid": _PROCESS, "tid": track, "name": kind, "args": arguments}


def write_trace(sim: Timed, path: Path) -> None:
    """Write the trace of a timed program as JSON."""
    document = {"displayTimeUnit": "ns", "traceEvents": trace_events(sim)}
    write_atomic(path, json.dumps(document).encode())
