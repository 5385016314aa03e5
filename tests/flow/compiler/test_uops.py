"""Micro-ops: each distinct sequence is stored once, and loaded once if it fits."""

from __future__ import annotations

import numpy as np
import pytest

from flow.compiler.memory import Constants
from flow.compiler.tokens import Emitted
from flow.compiler.uops import UopAllocator
from vta_config.errors import CapacityError
from vta_config.hardware import VTAConfig
from vta_config.isa import UOP_BYTES, Insn, Memory, Opcode, encode_uop
from vta_config.origin import Origin, Purpose


def gemm(*uops: tuple[int, int, int]) -> Emitted:
    return Emitted(Insn(Opcode.GEMM, {}, Origin(layer="conv1", tile=(0, 0, 0))), uops=uops)


def test_words_are_constants_in_the_order_of_their_places(default_config: VTAConfig) -> None:
    constants = Constants(64, 4096)
    allocator = UopAllocator(default_config, constants)
    emitted = list(allocator.assign([gemm((1, 2, 3), (4, 5, 6)), gemm((7, 8, 9))]))
    load, first, second = (e.insn for e in emitted)
    assert load["dram_base"] == 4096 // UOP_BYTES and load["sram_base"] == 0
    assert (load["x_size"], load["y_size"], load["x_stride"]) == (3, 1, 3)
    assert load.origin == Origin(layer="conv1", purpose=Purpose.UOPS)
    assert [(i["uop_begin"], i["uop_end"]) for i in (first, second)] == [(0, 2), (2, 3)]
    words = [encode_uop(default_config, dst_idx=d, src_idx=s, wgt_idx=w)
             for d, s, w in ((1, 2, 3), (4, 5, 6), (7, 8, 9))]  # fmt: skip
    assert np.frombuffer(constants.data()[:12], "<u4").tolist() == words


def test_layers_add_to_what_is_there(default_config: VTAConfig) -> None:
    allocator = UopAllocator(default_config, Constants(64, 0))
    same, other = gemm((1, 1, 1)), gemm((2, 2, 2))
    assert len(list(allocator.assign([same]))) == 2
    load, *rest = (e.insn for e in allocator.assign([same, other]))
    assert load["sram_base"] == 1 and load["x_size"] == 1
    assert [i["uop_begin"] for i in rest] == [0, 1]


def test_what_has_no_micro_ops_passes(default_config: VTAConfig) -> None:
    store = Emitted(Insn(Opcode.STORE, {}, Origin()))
    assert list(UopAllocator(default_config, Constants(64, 0)).assign([store])) == [store]


def test_one_instruction_must_fit() -> None:
    config = VTAConfig.load("small")
    many = gemm(*((i, 0, 0) for i in range(config.uop_depth + 1)))
    sentence = (
        rf"conv1 tile \(0, 0, 0\): its micro-ops must fit the uop buffer of {config.uop_depth}, "
        rf"got {config.uop_depth + 1}; choose a machine with a larger uop buffer"
    )
    with pytest.raises(CapacityError, match=sentence):
        list(UopAllocator(config, Constants(64, 0)).assign([many]))


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
