"""Instructions as they are built: fields, micro-ops, and the regions that tokens need."""

from __future__ import annotations

from typing import Any

import pytest

from flow.compiler.emit import Emitter, Tile
from flow.compiler.geometry import Dim, Range
from flow.compiler.tokens import Region
from flow.program.layouts import Border, DramTensor
from vta_config import VTAConfig
from vta_config.errors import CapacityError
from vta_config.isa import AluOp, Insn, Memory, Opcode
from vta_config.origin import Origin, Purpose

ORIGIN = Origin(layer="conv1", tile=(0, 0, 0))
#: At element 256: 40 channels are 3 blocks of 8 x 6 pixels.
ADDRESS = 256 * 16


@pytest.fixture
def emit(default_config: VTAConfig) -> Emitter:
    tensor = DramTensor(
        name="x", address=ADDRESS, shape=(1, 40, 8, 6), plane_bytes=3 * 48 * 16, planes=1
    )
    return Emitter(default_config, {"x": tensor})


def tile(**changes: Any) -> Tile:
    values: dict[str, Any] = {
        "n": 0,
        "oc": Range(1, 2),
        "oy": Range(2, 4),
        "ox": Range(0, 6),
        "acc": 100,
        "origin": ORIGIN,
        "group": Range(1, 2),
    }
    return Tile(**values | changes)


def fields(insn: Insn, *names: str) -> tuple[int, ...]:
    return tuple(insn[name] for name in names)


def transfer(insn: Insn) -> tuple[int, ...]:
    return fields(insn, "sram_base", "dram_base", "y_size", "x_size", "x_stride")


# ---- tiles ---------------------------------------------------------------------------------------
def test_a_tile_and_its_pieces() -> None:
    assert (tile().area, tile().vectors) == (24, 48)
    first, second = tile().pieces(1)
    assert (first.oc, first.acc, second.oc, second.acc) == ((1, 1), 100, (2, 1), 124)
    assert tile().pieces(25) == tile().pieces(48) == [tile()]


def test_runs_of_equal_values() -> None:
    layer = ["a", "b", "b", "c"]
    assert list(tile().runs(layer)) == [("b", (100, 48))]
    assert list(tile(oc=Range(0, 4)).runs(layer)) == [
        ("a", (100, 24)), ("b", (124, 48)), ("c", (172, 24)),
    ]  # fmt: skip


# ---- LOAD and STORE ------------------------------------------------------------------------------
def test_constants_are_read_by_nobody_else(emit: Emitter) -> None:
    load = emit.load_constant(Memory.WGT, 5, 70, ORIGIN, rows=2, columns=3, stride=10)
    assert load.insn["memory_type"] == Memory.WGT and transfer(load.insn) == (5, 70, 2, 3, 10)
    assert load.reads == () and load.writes == (Region("wgt", 5, 6),)
    flat = emit.load_constant(Memory.ACC, 5, 70, ORIGIN, rows=2, columns=3, stride=3)
    assert transfer(flat.insn) == (5, 70, 1, 6, 6) and flat.writes == (Region("acc", 5, 6),)


def test_weights_that_a_layer_makes_are_read_as_they_were_stored(emit: Emitter) -> None:
    load = emit.load_weights("x", 5, 0, Range(1, 2), ORIGIN)
    # Each block of 48 vectors is three elements of 16 of wgt; the first block lies at 256.
    assert load.insn["memory_type"] == Memory.WGT and transfer(load.insn) == (5, 19, 1, 2, 2)
    assert load.reads == (Region("dram", 256 + 48, 32),) and load.writes == (Region("wgt", 5, 2),)


def test_whole_rows_are_one_load(emit: Emitter) -> None:
    rows, columns = Range(2, 4), Range(0, 6)
    (load,) = emit.load_window("x", 7, 0, Range(1, 2), rows, columns, ORIGIN)
    # Block 1 begins at element 256 + 48; two rows of 6 pixels come before.
    assert transfer(load.insn) == (7, 256 + 48 + 12, 2, 24, 48)
    assert load.reads == (Region("dram", 316, 24, 2, 48),)
    assert load.writes == (Region("inp", 7, 48),)


def test_a_window_of_some_columns_is_a_load_for_each_block(emit: Emitter) -> None:
    rows, columns = Range(0, 5), Range(4, 2)
    loads = emit.load_window("x", 7, 0, Range(0, 2), rows, columns, ORIGIN)
    assert [transfer(e.insn) for e in loads] == [(7, 260, 5, 2, 6), (7 + 10, 308, 5, 2, 6)]
    assert [e.writes for e in loads] == [(Region("inp", 7, 10),), (Region("inp", 17, 10),)]


def test_an_empty_window_is_not_loaded(emit: Emitter) -> None:
    assert emit.load_window("x", 7, 0, Range(0, 2), Range(0, 0), Range(0, 6), ORIGIN) == []


def test_rows_that_are_never_read_are_skipped(emit: Emitter) -> None:
    rows, columns = Range(1, 3), Range(0, 6)
    (load,) = emit.load_window("x", 0, 0, Range(0, 1), rows, columns, ORIGIN, row_step=2)
    assert transfer(load.insn) == (0, 256 + 12, 3, 6, 12)


def test_a_flat_run_goes_through_blocks(emit: Emitter) -> None:
    (load,) = emit.load_flat("x", 3, 0, Range(40, 20), ORIGIN)
    assert transfer(load.insn) == (3, 296, 1, 20, 20)


def bordered(config: VTAConfig, *border: int) -> Emitter:
    """Return what emits for the same tensor with a border: block 1 is at 256 + one picture."""
    around = Border(*border, -128)
    tensor = DramTensor(
        name="x", address=ADDRESS, shape=(1, 40, 8, 6), plane_bytes=0, planes=1, border=around
    )
    return Emitter(config, {"x": tensor})


def test_a_border_is_part_of_the_picture(default_config: VTAConfig) -> None:
    """8 x 6 pixels in 11 x 9: two rows above, one below, one column before, two behind."""
    emit = bordered(default_config, 2, 1, 1, 2)
    # What pads by one reads rows -1 to 8 and columns -1 to 6.
    rows, columns = Range(0, 10), Range(0, 8)
    loads = emit.load_window("x", 7, 0, Range(0, 2), rows, columns, ORIGIN, corner=(1, 1))
    assert [transfer(e.insn) for e in loads] == [
        (7, 256 + 9, 10, 8, 9),
        (7 + 80, 256 + 99 + 9, 10, 8, 9),
    ]
    # The whole picture is one run a block.
    rows, columns = Range(1, 10), Range(0, 9)
    (load,) = emit.load_window("x", 7, 0, Range(0, 2), rows, columns, ORIGIN, corner=(2, 1))
    assert transfer(load.insn) == (7, 256 + 9, 2, 90, 99)
    # Who does not pad, or pads with zeros, reads what is inside.
    rows, columns = Range(0, 3), Range(0, 6)
    (load,) = emit.load_window("x", 0, 0, Range(1, 1), rows, columns, ORIGIN)
    assert transfer(load.insn) == (0, 256 + 99 + 19, 3, 6, 9)
    (load,) = emit.load_window("x", 0, 0, Range(0, 1), rows, columns, ORIGIN, row_step=2)
    assert transfer(load.insn) == (0, 256 + 19, 3, 6, 18)


def test_a_flat_run_goes_around_a_border(default_config: VTAConfig) -> None:
    """Elements 40 to 103: two of row 6, row 7; block 1; row 0 of block 2 and two of row 1."""
    emit = bordered(default_config, 2, 1, 1, 2)
    loads = emit.load_flat("x", 3, 0, Range(40, 64), ORIGIN)
    assert [transfer(e.insn) for e in loads] == [
        (3, 256 + 8 * 9 + 5, 1, 2, 2),
        (5, 256 + 9 * 9 + 1, 1, 6, 6),
        (11, 256 + 99 + 19, 8, 6, 9),
        (59, 256 + 198 + 19, 1, 6, 6),
        (65, 256 + 198 + 28, 1, 2, 2),
    ]
    assert [e.writes for e in loads] == [
        (Region("inp", at, count),) for at, count in ((3, 2), (5, 6), (11, 48), (59, 6), (65, 2))
    ]


def test_a_store_leaves_the_border_as_it_is(default_config: VTAConfig) -> None:
    stores = bordered(default_config, 2, 1, 1, 2).store("x", tile())
    assert [transfer(e.insn) for e in stores] == [
        (100, 256 + 99 + 4 * 9 + 1, 4, 6, 9),
        (124, 256 + 198 + 4 * 9 + 1, 4, 6, 9),
    ]
    # Without columns of border, rows still follow one another.
    (store,) = bordered(default_config, 1, 0, 1, 0).store("x", tile())
    assert transfer(store.insn) == (100, 256 + 60 + 18, 2, 24, 60)


def test_whole_rows_are_one_store(emit: Emitter) -> None:
    (store,) = emit.store("x", tile())
    assert store.insn.opcode == Opcode.STORE and store.insn["memory_type"] == Memory.OUT
    assert transfer(store.insn) == (100, 256 + 48 + 12, 2, 24, 48)
    assert store.reads == (Region("acc", 100, 48),)
    assert store.insn.origin.purpose == Purpose.STORE


def test_a_narrow_tile_is_a_store_for_each_block(emit: Emitter) -> None:
    stores = emit.store("x", tile(ox=Range(2, 3)))
    assert [transfer(e.insn) for e in stores] == [(100, 318, 4, 3, 6), (112, 366, 4, 3, 6)]


def test_transfers_have_a_size(emit: Emitter) -> None:
    sentence = r"conv1 tile \(0, 0, 0\): must move at most 65535 rows and elements a row, got 65536"
    with pytest.raises(CapacityError, match=sentence):
        emit.load_constant(Memory.WGT, 0, 0, ORIGIN, columns=1 << 16)


# ---- GEMM and ALU --------------------------------------------------------------------------------
def test_a_gemm_over_a_nest(emit: Emitter) -> None:
    dims = (Dim(4, 4, 10), Dim(4, 1, 1), Dim(2, 16, 0, 3))
    gemm = emit.gemm(dims, (100, 20, 5), ORIGIN.to(Purpose.GEMM))
    assert fields(gemm.insn, "iter_out", "iter_in", "dst_factor_out", "dst_factor_in") == (
        4,
        4,
        4,
        1,
    )
    assert fields(gemm.insn, "src_factor_out", "src_factor_in") == (10, 1)
    assert gemm.uops == ((100, 20, 5), (116, 20, 8)) and not gemm.insn["reset"]
    assert gemm.reads == (Region("inp", 20, 3 * 10 + 3 + 1), Region("wgt", 5, 4))
    assert gemm.writes == (Region("acc", 100, 3 * 4 + 3 + 16 + 1),)


def test_a_reset_reads_nothing(emit: Emitter) -> None:
    reset = emit.reset(100, 6, ORIGIN)
    assert reset.insn["reset"] == 1 and reset.insn["iter_in"] == 6
    assert reset.reads == () and reset.writes == (Region("acc", 100, 6),)
    assert reset.insn.origin.purpose == Purpose.RESET


@pytest.mark.parametrize(("imm", "use"), [(None, 0), (0, 1), (-3, 1)])
@pytest.mark.parametrize("op", ["min", "max", "add", "shr", "mul"])
def test_alu_operations(op: str, imm: int | None, use: int, emit: Emitter) -> None:
    alu = emit.alu(op, (Dim(6, 1, 1),), (100, 50), ORIGIN, imm=imm)
    assert alu.insn["alu_opcode"] == AluOp[op.upper()]
    assert fields(alu.insn, "use_imm", "imm") == (use, imm or 0)
    assert alu.uops == ((100, 50, 0),) and alu.writes == (Region("acc", 100, 6),)
