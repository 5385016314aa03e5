"""Origins are fields: names of layers change no instruction and no counter, in files too."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.asm import assemble, disassemble
from flow.program.origins import origins_json, read_origins
from flow.program.program import Program
from flow.results.counters import counters_by_layer
from flow.sim.program_sim import ProgramSim
from flow.sim.trace import trace_events
from flow.sim.tsim import TSim
from relay_passes.partition.layers import Subgraph
from tests.flow.compiler.networks import residual_network
from tests.strategies import HOSTILE_NAMES, layer_names
from vta_config import VTAConfig
from vta_config.errors import ArtifactError
from vta_config.isa import Insn, Opcode
from vta_config.origin import Origin, Purpose

CONFIG = VTAConfig.load("default")
GRAPH = residual_network(np.random.default_rng(0), size=16)
COUNT = len(GRAPH.layers)
PLAIN = make_program(GRAPH, lower(GRAPH, CONFIG), CONFIG)


def renamed(names: list[str]) -> Subgraph:
    """Return `GRAPH` with other names of layers; its tensors keep theirs."""
    layers = (replace(a, name=n) for a, n in zip(GRAPH.layers, names, strict=True))
    return replace(GRAPH, layers=tuple(layers))


def facts(program: Program) -> list[Any]:
    """Return each layer's counters and time, in order, then those of no layer."""
    counters = counters_by_layer(ProgramSim(program))
    timing = TSim(program).result
    return [
        (counters[record.name], layer.cycles, layer.gemm_steps, layer.path)
        for record, layer in zip(program.layers, timing.layers, strict=True)
    ] + [counters[None]]


WANT = facts(PLAIN)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(layer_names(COUNT))
@example(list(HOSTILE_NAMES[:COUNT]))
@example(list(HOSTILE_NAMES[COUNT : 2 * COUNT]))
@example(list(HOSTILE_NAMES[-COUNT:]))
def test_names_change_nothing_but_names(names: list[str]) -> None:
    graph = renamed(names)
    program = make_program(graph, lower(graph, CONFIG), CONFIG)
    assert program.insn_bytes == PLAIN.insn_bytes and program.constants == PLAIN.constants
    again = Program.from_bytes(program.to_bytes())
    assert [i.origin for i in again.insns] == [i.origin for i in program.insns]
    assert {i.origin.layer for i in again.insns} == {None, *(r.name for r in again.layers)}
    assert facts(again) == WANT
    text = disassemble(again.insns, CONFIG)
    assert all(line.isprintable() for line in text.split("\n"))
    assert [i.opcode for i in assemble(text, CONFIG)] == [i.opcode for i in program.insns]
    timing = TSim(again)
    table = timing.result.table().split("\n")
    assert all(line.isprintable() and len(line) < 300 for line in table)
    assert len(table) == 2 + len(again.layers) + 1 + 2 + 2 + 3  # heads, all, sentences, modules
    events = trace_events(timing)
    assert all(event["name"].isprintable() for event in events)


def test_purposes_of_a_program() -> None:
    purposes = {insn.origin.purpose for insn in PLAIN.insns}
    assert purposes >= {
        Purpose.INPUT,
        Purpose.WEIGHTS,
        Purpose.RESET,
        Purpose.GEMM,
        Purpose.BIAS,
        Purpose.RESIDUAL,
        Purpose.POOL,
        Purpose.REQUANTIZE,
        Purpose.STORE,
        Purpose.UOPS,
        Purpose.VECTOR,
        Purpose.DIAGONAL,
        Purpose.FINISH,
    }
    assert PLAIN.insns[-1].origin == Origin(purpose=Purpose.FINISH)
    for insn in PLAIN.insns:
        if insn.origin.purpose in (Purpose.GEMM, Purpose.BIAS, Purpose.RESIDUAL):
            assert insn.origin.tile is not None
            assert insn.opcode in (Opcode.GEMM, Opcode.LOAD)


# ---- files ---------------------------------------------------------------------------------------
def test_a_table_and_runs() -> None:
    first = Origin(layer="b", tile=(0, 14, 0), purpose=Purpose.BIAS)
    last = Origin(purpose=Purpose.FINISH)
    insns = [Insn(Opcode.GEMM, {}, origin) for origin in (first, first, last, first)]
    values = origins_json(insns, ["a", "b"])
    assert json.loads(json.dumps(values)) == {
        "table": [[1, [0, 14, 0], "bias"], [None, None, "finish"]],
        "runs": [0, 2, 1, 1, 0, 1],
    }
    assert read_origins(values, 4, ["a", "b"], "x.vta") == [first, first, last, first]


ROWS = "x.vta origins: must be rows of a layer's index, a tile and a purpose, got "
RUNS = "x.vta origins: must be runs of a row's index and a number of instructions, got "


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (None, "x.vta origins: must be a table and runs, got NoneType"),
        ([["conv tile (0, 0, 0)", 2]], "x.vta origins: must be a table and runs, got list"),
        ({"table": []}, "x.vta origins: must be a table and runs, got dict"),
        ({"table": [["a", None, ""]], "runs": []}, ROWS + "['a', None, '']"),
        ({"table": [[2, None, ""]], "runs": []}, ROWS + "[2, None, '']"),
        ({"table": [[-1, None, ""]], "runs": []}, ROWS + "[-1, None, '']"),
        ({"table": [[True, None, ""]], "runs": []}, ROWS + "[True, None, '']"),
        ({"table": [[0, [0, 0], ""]], "runs": []}, ROWS + "[0, [0, 0], '']"),
        ({"table": [[0, [0, 0, -1], ""]], "runs": []}, ROWS + "[0, [0, 0, -1], '']"),
        ({"table": [[0, None, 1]], "runs": []}, ROWS + "[0, None, 1]"),
        ({"table": [[0, None]], "runs": []}, ROWS + "[0, None]"),
        ({"table": [[0, None, ""]], "runs": [0]}, RUNS + "1 values"),
        ({"table": [[0, None, ""]], "runs": [1, 2]}, RUNS + "2 values"),
        ({"table": [[0, None, ""]], "runs": [0, 0]}, RUNS + "2 values"),
        ({"table": [[0, None, ""]], "runs": [0, 2.0]}, RUNS + "2 values"),
        (
            {"table": [[0, None, ""]], "runs": [0, 1]},
            "x.vta origins: must be of 2 instructions, got",
        ),
        (
            {"table": [[0, None, ""]], "runs": [0, 1 << 62]},
            f"x.vta origins: must be of 2 instructions, got {1 << 62}; compile it again",
        ),
    ],
)
def test_origins_that_are_none(values: Any, sentence: str) -> None:
    with pytest.raises(ArtifactError) as error:
        read_origins(values, 2, ["a", "b"], "x.vta")
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize("names", [["a", "a"], [1, 2], [["a"], "b"]])
def test_layers_have_names_of_their_own(names: list[Any]) -> None:
    with pytest.raises(ArtifactError, match="must be of layers that have texts of their own as na"):
        read_origins({"table": [], "runs": []}, 0, names, "x.vta")


def test_a_file_with_other_origins_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"table": [[None, None, ""]], "runs": [0, len(PLAIN.insns) + 1]}
    monkeypatch.setattr("flow.program.program.origins_json", lambda insns, layers: values)
    with pytest.raises(ArtifactError, match=r"^x\.vta origins: must be of \d+ instructions, got"):
        Program.from_bytes(PLAIN.to_bytes(), "x.vta")
