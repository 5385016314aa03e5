"""Tokens order every race, balance, and go through COMPUTE where there is no direct way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flow.compiler.tokens import Emitted, Region, TokenInserter
from vta_config.isa import Insn, Memory, Module, Opcode
from vta_config.origin import Origin, Purpose

DEPTHS = {"inp": 8, "wgt": 8, "acc": 8, "dram": 16}


def load(sram: int, dram: int, count: int = 1) -> Emitted:
    values = {"memory_type": int(Memory.INP), "x_size": count}
    reads = (Region("dram", dram, count),)
    return Emitted(
        Insn(Opcode.LOAD, values, Origin(purpose="load")), reads, (Region("inp", sram, count),)
    )


def gemm(src: int, dst: int) -> Emitted:
    reads = (Region("inp", src, 1),)
    return Emitted(Insn(Opcode.GEMM, {}, Origin(purpose="gemm")), reads, (Region("acc", dst, 1),))


def store(sram: int, dram: int) -> Emitted:
    values = {"memory_type": int(Memory.OUT), "x_size": 1}
    writes = (Region("dram", dram, 1),)
    return Emitted(
        Insn(Opcode.STORE, values, Origin(layer="a", tile=(0, 1, 2), purpose="store")),
        (Region("acc", sram, 1),),
        writes,
    )


def tokens(insn: Insn) -> set[str]:
    names = ("pop_prev", "pop_next", "push_prev", "push_next")
    return {name for name in names if insn[name]}


def test_a_read_waits_for_its_write_and_a_write_for_its_readers() -> None:
    program = [load(0, 0), gemm(0, 0), store(0, 8), load(0, 1), gemm(0, 0)]
    got = [tokens(insn) for insn in TokenInserter(DEPTHS).insert(program)]
    assert got == [
        {"push_next"},
        {"pop_prev", "push_next", "push_prev"},
        {"pop_prev", "push_prev"},
        {"pop_next", "push_next"},
        {"pop_prev", "pop_next"},
        set(),
    ]


def test_known_dependences_cost_nothing() -> None:
    program = [load(0, 0, 4), gemm(0, 0), gemm(1, 1), gemm(2, 2), store(0, 8), store(1, 9)]
    got = [tokens(insn) for insn in TokenInserter(DEPTHS).insert(program)]
    assert got[1:4] == [{"pop_prev", "push_next"}, {"push_next"}, set()]


def test_a_layer_reads_what_the_last_one_stored_through_compute() -> None:
    program = [load(0, 0), gemm(0, 0), store(0, 8), load(1, 8), gemm(1, 1)]
    insns = TokenInserter(DEPTHS).insert(program)
    relay = insns[3]
    assert relay.origin == Origin(layer="a", tile=(0, 1, 2), purpose=Purpose.WAIT)
    assert relay.module == Module.COMPUTE
    assert relay["x_size"] == 0 and tokens(relay) == {"pop_next", "push_prev"}
    assert tokens(insns[4]) == {"pop_next", "push_next"}


def test_one_token_carries_a_direct_and_a_relayed_dependence() -> None:
    program = [load(0, 0), gemm(0, 0), store(0, 8), gemm(0, 1), load(0, 8), gemm(0, 2)]
    insns = TokenInserter(DEPTHS).insert(program)
    pushes = Counter((i.module, name) for i in insns for name in tokens(i))
    assert pushes[Module.COMPUTE, "push_prev"] == pushes[Module.LOAD, "pop_next"] == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7), st.integers(0, 7)), max_size=40))
def test_every_order_that_tokens_allow_gives_the_same_memory(
    steps: list[tuple[int, int, int]],
) -> None:
    make = (load, gemm, store)
    effects = {}
    for index, (kind, a, b) in enumerate(steps):
        emitted = make[kind](a, b)
        emitted = replace(
            emitted, insn=replace(emitted.insn, origin=Origin(purpose=f"step {index}"))
        )
        effects[emitted.insn.origin] = emitted
    insns = TokenInserter(DEPTHS).insert(list(effects.values()))
    for a, b, push, pop in (
        (Module.LOAD, Module.COMPUTE, "push_next", "pop_prev"),
        (Module.COMPUTE, Module.LOAD, "push_prev", "pop_next"),
        (Module.COMPUTE, Module.STORE, "push_next", "pop_prev"),
        (Module.STORE, Module.COMPUTE, "push_prev", "pop_next"),
    ):
        pushes = sum(i[push] for i in insns if i.module == a)
        assert pushes == sum(i[pop] for i in insns if i.module == b)
    expected = _run(insns, effects)
    for seed in range(3):
        assert _run([insns[i] for i in _legal_order(insns, seed)], effects) == expected


def _legal_order(insns: list[Insn], seed: int) -> list[int]:
    """Run the three modules in a random order that tokens allow."""
    rng = np.random.default_rng(seed)
    queues = {m: [i for i, insn in enumerate(insns) if insn.module == m] for m in Module}
    fifo: Counter[tuple[Module, Module]] = Counter()
    order: list[int] = []

    def moves(index: int, kind: str) -> list[tuple[Module, Module]]:
        module, result = insns[index].module, []
        for side, step in (("prev", -1), ("next", 1)):
            if insns[index][f"{kind}_{side}"]:
                other = Module(module + step)
                result.append((other, module) if kind == "pop" else (module, other))
        return result

    while any(queues.values()):
        ready = [
            m for m, q in queues.items() if q and all(fifo[edge] for edge in moves(q[0], "pop"))
        ]
        assert ready, "deadlock"
        module = ready[rng.integers(len(ready))]
        index = queues[module].pop(0)
        fifo.subtract(moves(index, "pop"))
        fifo.update(moves(index, "push"))
        order.append(index)
    return order


def _run(insns: list[Insn], effects: dict[Origin, Emitted]) -> dict[tuple[str, int], int]:
    """Execute symbolically: an element holds a hash of what it was computed from."""
    memory: dict[tuple[str, int], int] = {}
    for insn in insns:
        effect = effects.get(insn.origin)
        if effect is None:  # a relay or FINISH
            continue
        read = [memory.get((r.space, r.start), 0) for r in effect.reads]
        for region in effect.writes:
            memory[region.space, region.start] = hash((insn.origin, *read))
    return memory
