"""Weights are loaded ahead across layers, where that is right and pays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compiler import order
from flow.compiler.cost import Tiling
from flow.compiler.schedule import Schedule
from flow.sim.tsim import time_insns
from relay_passes.partition.layers import PostOp, Subgraph, TensorSpec
from tests.flow.compiler.networks import conv, dense, requantize, subgraph, sum_pool
from tests.flow.compiler.test_lower import check, compiled
from vta_config.hardware import VTAConfig, preset_names
from vta_config.isa import Memory, Opcode


def network(*, channels: int = 64, size: int = 14, outputs: int = 500) -> Subgraph:
    """Return a convolution, an average and a dense layer that loads more than it computes."""
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, channels, size, size), dtype="int8")
    first = conv(rng, "first", x, channels, (3, 3), padding=(1, 1, 1, 1))
    average = sum_pool("average", first, 6)
    last = dense(rng, "dense", average, outputs, post_ops=requantize(rng, outputs, 9))
    return subgraph((first, average, last), x)


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
