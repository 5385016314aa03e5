"""Weights are loaded ahead across layers, where that is right and pays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compiler import order
from flow.compiler.cost import Tiling
from flow.compiler.schedule import Schedule
from flow.program.program import Program
from flow.sim.tsim import time_insns
from relay_passes.partition.layers import PostOp, Subgraph, TensorSpec
from tests.flow.compiler.networks import conv, dense, max_pool, requantize, subgraph, sum_pool
from tests.flow.compiler.test_lower import check, compiled
from vta_config.hardware import VTAConfig, preset_names
from vta_config.isa import Insn, Memory, Opcode
from vta_config.origin import Purpose


def network(*, channels: int = 64, size: int = 14, outputs: int = 500) -> Subgraph:
    """Return a convolution, pools and a dense layer that loads more than it computes."""
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, channels, size, size), dtype="int8")
    first = conv(rng, "first", x, channels, (3, 3), padding=(1, 1, 1, 1))
    largest = max_pool("largest", first, 3, 1, 1)
    average = sum_pool("average", largest, 6)
    last = dense(rng, "dense", average, outputs, post_ops=requantize(rng, outputs, 9))
    return subgraph((first, largest, average, last), x)


def test_weights_come_while_the_layers_before_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    config = VTAConfig.load("default")
    program = check(network())
    names = [insn.origin.layer for insn in program.insns]
    stores = [i for i, insn in enumerate(program.insns) if insn.opcode == Opcode.STORE]
    first_done = max(i for i in stores if names[i] == "first")
    ahead = [
        i
        for i, insn in enumerate(program.insns[:first_done])
        if names[i] == "dense" and insn.opcode == Opcode.LOAD
    ]
    assert len(ahead) > 2
    assert all(program.insns[i]["memory_type"] == Memory.WGT for i in ahead)
    cycles, _ = time_insns(config, program.insn_bytes)

    monkeypatch.setattr(order._Weights, "later", lambda *_: iter(()))
    without, _ = time_insns(config, compiled(network()).insn_bytes)
    moved = sum(program.insns[i]["x_size"] for i in ahead) * config.wgt_elem_bytes
    assert without - cycles > 0.5 * moved / config.bus_bytes


@settings(max_examples=15, deadline=None)
@given(
    channels=st.integers(1, 70),
    size=st.integers(1, 14),
    outputs=st.integers(1, 300),
    preset=st.sampled_from(preset_names()),
)
def test_any_of_these_networks(channels: int, size: int, outputs: int, preset: str) -> None:
    check(network(channels=channels, size=size, outputs=outputs), preset)


def test_the_next_tiles_weights_come_before_residuals_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """7² × 512: residuals of two slots at a tile's end, then a chunk that takes long to load."""
    rng, config = np.random.default_rng(0), VTAConfig.load("default")
    x = TensorSpec(name="x", shape=(1, 512, 7, 7), dtype="int8")
    skip = (PostOp(op="add_tensor", value=3, tensor="x"), *requantize(rng, 512, 9))
    graph = subgraph((conv(rng, "conv", x, 512, (3, 3), padding=(1,) * 4, post_ops=skip),), x)
    tiling = Tiling(oc=8, oh=7, ow=7, ic=2, oc_w=8, oc_outer=False)
    schedule = Schedule(tilings={"conv": tiling}, forms={})
    cycles, _ = time_insns(config, compiled(graph, schedule=schedule).insn_bytes)

    monkeypatch.setattr(order._Weights, "own", lambda *_: None)
    without, _ = time_insns(config, compiled(graph, schedule=schedule).insn_bytes)
    # Two tiles less, whose first chunks take 4,800 cycles each.
    assert cycles < without - 2 * 4000


def tail(count: int, *, channels: int = 160) -> Subgraph:
    """Return a layer that computes for long, and small ones that load for long."""
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 16, 24, 24), dtype="int8")
    layers = [conv(rng, "large", x, 32, (3, 3), padding=(1, 1, 1, 1))]
    layers.append(conv(rng, "small", layers[-1], channels, (1, 1), stride=(12, 12)))
    for index in range(count):
        layers.append(conv(rng, f"tail{index}", layers[-1], channels, (1, 1)))
    return subgraph(tuple(layers), x)


def weight_loads(program: Program, layer: str) -> list[Insn]:
    """Return the loads of a layer's weights."""
    return [
        insn
        for insn in program.insns
        if insn.origin.layer == layer
        and insn.opcode == Opcode.LOAD
        and insn["memory_type"] == Memory.WGT
    ]


def loaded_before(program: Program, layer: str) -> set[str]:
    """Return the other layers whose weights are loaded before a layer's first product."""
    first = next(
        i
        for i, insn in enumerate(program.insns)
        if insn.origin.layer == layer and insn.origin.purpose == Purpose.GEMM
    )
    loads = (e for e in program.insns[:first] if e.opcode == Opcode.LOAD)
    names = {e.origin.layer for e in loads if e["memory_type"] == Memory.WGT}
    return {name for name in names if name not in (None, layer)}


def test_weights_of_many_layers_come_while_one_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the last layers loads for 3,500 cycles and computes for 500."""
    config, graph = VTAConfig.load("default"), tail(4)
    program = check(graph)
    assert loaded_before(program, "small") == {"large", "tail0", "tail1", "tail2", "tail3"}
    cycles, _ = time_insns(config, program.insn_bytes)

    monkeypatch.setattr(order._Weights, "later", lambda *_: iter(()))
    without, _ = time_insns(config, compiled(graph).insn_bytes)
    assert cycles < 0.8 * without


def test_no_weights_come_earlier_than_they_are_wanted() -> None:
    """Layers that compute for longer than they load need the next one's weights in time."""
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 32, 24, 24), dtype="int8")
    layers = [conv(rng, "0", x, 32, (3, 3), padding=(1, 1, 1, 1))]
    for index in range(1, 8):
        layers.append(conv(rng, str(index), layers[-1], 32, (3, 3), padding=(1, 1, 1, 1)))
    program = check(subgraph(tuple(layers), x))
    assert "5" in loaded_before(program, "6")
    assert "7" not in loaded_before(program, "3")


def pyramid(*widths: int) -> Subgraph:
    """Return convolutions on a picture of 24 x 24, of which every second one halves it."""
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 16, 24, 24), dtype="int8")
    layers = [conv(rng, "stem", x, 32, (3, 3), padding=(1, 1, 1, 1))]
    for index, width in enumerate(widths):
        stride = (1, 1) if index % 2 else (2, 2)
        name = str(index)
        layers.append(conv(rng, name, layers[-1], width, (3, 3), stride=stride, padding=(1,) * 4))
    return subgraph(tuple(layers), x)


def test_a_load_is_split_where_the_time_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    config, graph = VTAConfig.load("default"), pyramid(32, 32, 64, 64, 128, 128)
    program = check(graph)
    monkeypatch.setattr(order, "PART_CYCLES", 1 << 30)
    whole = compiled(graph)
    names = [layer.name for layer in graph.layers]
    split, uncut = ([weight_loads(p, name) for name in names] for p in (program, whole))
    assert sum(map(len, split)) > sum(map(len, uncut))
    for parts, loads in zip(split, uncut, strict=True):
        elems = [sum(e["x_size"] * e["y_size"] for e in of) for of in (parts, loads)]
        assert elems[0] == elems[1]
    cycles = [time_insns(config, p.insn_bytes)[0] for p in (program, whole)]
    assert cycles[0] < 0.95 * cycles[1]


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 5),
    channels=st.integers(1, 200),
    preset=st.sampled_from(preset_names()),
)
def test_any_of_these_tails(count: int, channels: int, preset: str) -> None:
    check(tail(count, channels=channels), preset)


def test_weights_that_stay_for_a_group_come_before_inputs_that_wait() -> None:
    """Two places a group: LOAD is idle at the second one, and the next group's weights are long."""
    rng, config = np.random.default_rng(0), VTAConfig.load("block32")
    x = TensorSpec(name="x", shape=(1, 256, 14, 14), dtype="int8")
    graph = subgraph((conv(rng, "conv", x, 256, (3, 3), padding=(1,) * 4),), x)
    tiling = Tiling(oc=2, oh=7, ow=14, ic=2, oc_w=1, oc_outer=True)
    program = check(graph, "block32", schedule=Schedule(tilings={"conv": tiling}, forms={}))
    cycles, table = time_insns(config, program.insn_bytes)
    loads = [
        (insn.origin.tile, insn["memory_type"])
        for insn in program.insns
        if insn.opcode == Opcode.LOAD and insn["x_size"]
    ]
    last_input = max(i for i, load in enumerate(loads) if load == ((0, 7, 0), Memory.INP))
    assert ((2, 0, 0), Memory.WGT) in loads[:last_input]
    # GEMM takes 102,400 steps of them, and all weights 73,728 beats.
    assert cycles < 1.2 * sum(table["beats"]) and cycles < 1.12 * 114_000
