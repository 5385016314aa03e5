"""A timed program as a trace."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from flow.sim.timing_report import (
    MODULES,
)
from flow.sim.trace import title, trace_events, write_trace
from flow.sim.tsim import TSim
from vta_config.isa import AluOp, Insn, Memory, Opcode
from vta_config.origin import Origin, Purpose


@pytest.mark.parametrize(
    ("insn", "text"),
    [
        (Insn(Opcode.LOAD, {"memory_type": Memory.WGT, "x_size": 1}, Origin()), "LOAD WGT"),
        (Insn(Opcode.LOAD, {"memory_type": Memory.UOP, "x_size": 0}, Origin()), "LOAD no-op"),
        (Insn(Opcode.STORE, {"memory_type": Memory.OUT, "x_size": 3}, Origin()), "STORE OUT"),
        (Insn(Opcode.GEMM, {"reset": 1}, Origin()), "GEMM reset"),
        (Insn(Opcode.GEMM, {}, Origin()), "GEMM"),
        (Insn(Opcode.ALU, {"alu_opcode": AluOp.MIN}, Origin()), "ALU"),
        (Insn(Opcode.FINISH, {}, Origin(purpose=Purpose.FINISH)), "FINISH"),
    ],
)
def test_titles(insn: Insn, text: str) -> None:
    assert title(insn) == text


def test_tracks_have_names_and_waits_say_for_whom(timed: TSim) -> None:
    events = trace_events(timed)
    told = {kind: [e for e in events if e["ph"] == "M" and e["name"] == kind]
            for kind in ("process_name", "thread_name", "thread_sort_index")}  # fmt: skip
    (process,) = told["process_name"]
    assert process["args"] == {"name": f"VTA default, 100 MHz: {timed.program.symbol}"}
    # Viewers show the thread first that has the process's number, then the others in order.
    names = [(e["tid"], e["args"]["name"]) for e in told["thread_name"]]
    assert names == [*enumerate(["layers", "FETCH", *MODULES], start=process["pid"])]
    assert all(e["args"]["sort_index"] == e["tid"] for e in told["thread_sort_index"])
    assert {e["pid"] for e in events} == {process["pid"]}
    table, insns = timed.table, timed.program.insns
    waits = [e for e in events if e.get("cat") == "wait"]
    total = sum(int(table[f"wait_{who}"].sum()) for who in ("fetch", "prev", "next"))
    assert sum(e["args"]["cycles"] for e in waits) == total > 0
    # LOAD waits for COMPUTE alone, STORE as well; COMPUTE for both.
    found = {(e["tid"] - 3, e["name"]) for e in waits if e["name"] != "wait for FETCH"}
    assert found <= {
        (0, "wait for COMPUTE"),
        (1, "wait for LOAD"),
        (1, "wait for STORE"),
        (2, "wait for COMPUTE"),
    }
    fetched = [e["name"] for e in events if e.get("cat") == "fetch"]
    assert fetched[0].startswith("insns 0 to ") and fetched[-1].endswith(f" to {len(insns) - 1}")


def test_trace(timed: TSim, tmp_path: Path) -> None:
    write_trace(timed, tmp_path / "trace.json")
    document = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    events = [e for e in document["traceEvents"] if e["ph"] == "X"]
    assert document["traceEvents"] == trace_events(timed)
    insns = [e for e in events if e["cat"] == "insn"]
    assert [e["args"]["insn"] for e in insns] == list(range(len(timed.program.insns)))
    assert insns[3]["args"]["origin"] == str(timed.program.insns[3].origin)
    assert insns[3]["ts"] == pytest.approx(timed.table["start"][3] / 100)
    assert sum(e["args"]["cycles"] for e in events if e["cat"] == "layer") == timed.cycles
    # On one track nothing overlaps.
    for track in range(1, 6):
        spans = sorted(
            (e["args"]["cycle"], e["args"]["cycles"]) for e in events if e["tid"] == track
        )
        assert all(a + n <= b for (a, n), (b, _) in pairwise(spans))
