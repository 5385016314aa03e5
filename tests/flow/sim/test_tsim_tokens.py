"""Every token of a compiled program, taken away in turn: the simulator says what goes wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.program import Program
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from tests.flow.compiler.networks import residual_network, weights
from vta_config.errors import DeadlockError, HazardError
from vta_config.hardware import VTAConfig
from vta_config.isa import Insn, Module

#: FIFOs as (module that pushes, field, module that pops, field).
FIFOS = (
    (Module.LOAD, "push_next", Module.COMPUTE, "pop_prev"),
    (Module.COMPUTE, "push_prev", Module.LOAD, "pop_next"),
    (Module.COMPUTE, "push_next", Module.STORE, "pop_prev"),
    (Module.STORE, "push_prev", Module.COMPUTE, "pop_next"),
)


@pytest.fixture(scope="module")
def program() -> Program:
    config = VTAConfig.load("small")
    graph = residual_network(np.random.default_rng(1), size=8)
    return make_program(graph, lower(graph, config), config)


def tokens(program: Program) -> list[tuple[int, str, int, str]]:
    """(pushing insn, field, popping insn, field) of every token."""
    result = []
    for source, push, target, pop in FIFOS:
        insns = list(enumerate(program.insns))
        pushes = [i for i, insn in insns if insn.module == source and insn[push]]
        pops = [i for i, insn in insns if insn.module == target and insn[pop]]
        result += [(a, push, b, pop) for a, b in zip(pushes, pops, strict=True)]
    return result


def without(program: Program, *flags: tuple[int, str]) -> Program:
    insns = list(program.insns)
    for i, name in flags:
        insns[i] = Insn(insns[i].opcode, {**insns[i].values, name: 0}, insns[i].origin)
    return replace(program, insns=tuple(insns))


def test_there_are_tokens_of_every_kind(program: Program) -> None:
    assert {field for token in tokens(program) for field in (token[1], token[3])} == {
        "push_next", "push_prev", "pop_next", "pop_prev",
    }  # fmt: skip


def test_a_lost_push_is_a_deadlock(program: Program) -> None:
    for i, push, _, _ in tokens(program):
        with pytest.raises(DeadlockError, match=r"waits for a token of (LOAD|COMPUTE|STORE)"):
            TSim(without(program, (i, push)))


def test_a_lost_pop_is_named(program: Program) -> None:
    for _, _, i, pop in tokens(program):
        with pytest.raises(HazardError, match=r"must |no token that orders"):
            TSim(without(program, (i, pop)))


def test_a_lost_token_is_a_hazard_or_does_not_matter(program: Program) -> None:
    x = weights(np.random.default_rng(3), *program.inputs[0].shape)
    want = ProgramSim(program).run([x]).outputs[0]
    matters = harmless = 0
    for a, push, b, pop in tokens(program):
        try:
            sim = TSim(without(program, (a, push), (b, pop)))
        except (HazardError, DeadlockError) as error:
            assert "insn" in str(error)
            matters += 1
            continue
        # Another token orders the same: every order gives the same bytes.
        harmless += 1
        np.testing.assert_array_equal(sim.run([x]).outputs[0], want)
    assert matters > 0.9 * (matters + harmless)
