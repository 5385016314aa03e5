"""Activations never overlap while both live; constants are stored once."""

from __future__ import annotations

import numpy as np

from flow.compiler.buffers import SlotBuffer, SlotPool
from flow.compiler.memory import Constants, plan_activations
from flow.compiler.normal_form import normal_layer
from flow.compiler.tokens import Emitted
from flow.compiler.uops import UopAllocator
from flow.program.layouts import alignment_bytes
from tests.flow.compiler.networks import residual_network
from vta_config.hardware import VTAConfig
from vta_config.isa import Insn, Memory, Opcode
from vta_config.origin import Origin


def test_tensors_that_live_together_lie_apart(preset: VTAConfig) -> None:
    graph = residual_network(np.random.default_rng(0))
    shapes = {"x": (1, 12, 16, 16)} | {layer.output: layer.out_shape for layer in graph.layers}
    layers = [normal_layer(layer, preset) for layer in graph.layers]
    tensors, total = plan_activations(graph, layers, preset, shapes)
    last_read = {layer.output: i for i, layer in enumerate(graph.layers)}
    last_read |= {name: i for i, layer in enumerate(graph.layers) for name in layer.inputs}
    last_read["dense"] = len(graph.layers)
    born = {"x": -1} | {layer.output: i for i, layer in enumerate(graph.layers)}
    for a in tensors.values():
        assert a.address % alignment_bytes(preset) == 0
        end = a.address + a.planes * a.plane_bytes
        assert end <= total
        for b in tensors.values():
            together = born[a.name] <= last_read[b.name] and born[b.name] <= last_read[a.name]
            if a is not b and together:
                assert end <= b.address or b.address + b.planes * b.plane_bytes <= a.address
    assert total < sum(t.planes * t.plane_bytes for t in tensors.values())


def test_equal_constants_are_stored_once() -> None:
    constants = Constants(256, 4096)
    one = constants.add(np.arange(10, dtype=np.int8))
    assert one == 4096
    assert constants.add(np.arange(11, dtype=np.int8)) == 4096 + 256
    assert constants.add(np.arange(10, dtype=np.int8)) == one
    assert constants.size_bytes == len(constants.data()) == 512


def test_slots_keep_what_they_hold_and_spare_what_is_in_use() -> None:
    buffer = SlotBuffer(100)
    buffer.begin_layer(chunk=SlotPool(50))
    assert buffer.place("a", 1) == (0, True, False)
    assert buffer.place("b", 2) == (50, True, False)
    assert buffer.place("a", 3) == (0, False, False)
    assert buffer.place("c", 4) == (50, True, False)
    assert buffer.place("d", 4) == (0, True, True), "the job before still uses the other slot"
    buffer.begin_layer(residual=SlotPool(10), chunk=SlotPool(60))
    assert buffer.place("e", 5).late, "the last layer's job may still use the only slot"
    assert not buffer.place("f", 9, "residual").late


def test_a_new_layer_starts_where_the_last_one_is_done() -> None:
    buffer = SlotBuffer(100)
    buffer.begin_layer(chunk=SlotPool(20))
    first = [buffer.place(job, job).base for job in (1, 2)]
    buffer.begin_layer(chunk=SlotPool(30))
    second = [buffer.place(job, job).base for job in (3, 4)]
    assert max(first) + 20 <= min(second) and not buffer.place("x", 5).late


def uop_program(config: VTAConfig, lengths: list[int]) -> list[Insn]:
    emitted = [
        Emitted(
            Insn(Opcode.GEMM, {}, Origin(layer="layer", tile=(n, 0, 0))),
            uops=tuple((n, i, 0) for i in range(n)),
        )
        for n in lengths
    ]
    return [e.insn for e in UopAllocator(config, Constants(128, 0)).assign(emitted)]


def test_micro_ops_of_a_layer_are_loaded_at_once(default_config: VTAConfig) -> None:
    insns = uop_program(default_config, [3, 4, 3])
    assert [insn.opcode for insn in insns] == [Opcode.LOAD, *[Opcode.GEMM] * 3]
    assert insns[0]["memory_type"] == Memory.UOP and insns[0]["x_size"] == 7
    assert [(i["uop_begin"], i["uop_end"]) for i in insns[1:]] == [(0, 3), (3, 7), (0, 3)]


def test_micro_ops_beyond_the_buffer_are_loaded_in_windows() -> None:
    config = VTAConfig.load("small")
    insns = uop_program(config, [200, 150, 200, 199])
    loads = [insn["x_size"] for insn in insns if insn.opcode == Opcode.LOAD]
    assert sum(loads) <= 200 + 150 + 200 + 199 and max(loads) <= config.uop_depth
    assert len(loads) == 2
