"""The model of area and energy: its equations by hand, and files of constants."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flow.machines.axes import varied
from flow.sweep.costs import (
    CONSTANTS_FILE,
    Constants,
    area_of,
    energy_of,
    read_constants,
    sources,
    usual_constants,
)
from flow.sweep.where import QUANTITIES
from flow.sweep.work import Work
from vta_config import VTAConfig
from vta_config.errors import ConfigError

DEFAULT = VTAConfig.load("default")
#: Round numbers, so that results can be computed by hand.
ROUND = Constants(
    name="round",
    sram_cell_um2=0.5,
    sram_cells_share=0.5,
    multiplier_um2=100.0,
    adder_um2=10.0,
    multiply_pj=0.64,
    add_pj=0.1,
    sram_64_bits_pj=((1024.0, 1.0), (4096.0, 2.0), (65536.0, 8.0)),
    dram_pj_per_byte=100.0,
    sram_static_w_per_bit=1e-12,
)
NOTHING = Work(
    cycles=0, insns=0, gemm_steps=0, useful_steps=0, reset_steps=0, alu_steps=0, alu_reads=0,
    inp_bytes=0, wgt_bytes=0, acc_bytes=0, uop_bytes=0, out_bytes=0, bound="gemm", bound_share=0.0,
)  # fmt: skip


def test_area() -> None:
    found = area_of(DEFAULT, ROUND)
    assert found.sram_mm2 == pytest.approx(480 * 1024 * 8 * 1e-6)  # 1 µm² a bit
    assert found.gemm_mm2 == pytest.approx(256 * 110e-6)
    assert found.alu_mm2 == pytest.approx(16 * 30e-6)
    assert found.mm2 == pytest.approx(found.sram_mm2 + found.gemm_mm2 + found.alu_mm2)
    narrow = area_of(varied(DEFAULT, **{"weight-bits": 4}), ROUND)
    assert narrow.gemm_mm2 == pytest.approx(256 * 60e-6)
    assert area_of(varied(DEFAULT, block=32), ROUND).gemm_mm2 == pytest.approx(1024 * 110e-6)


def test_energy_of_memory() -> None:
    assert [ROUND.access_pj(b) for b in (1024, 4096, 65536)] == pytest.approx([1, 2, 8])
    assert ROUND.access_pj(2048) == pytest.approx(2**0.5)
    assert ROUND.access_pj(256) == pytest.approx(0.5)
    assert ROUND.access_pj(16 * 65536) == pytest.approx(32)
    assert replace(ROUND, sram_64_bits_pj=((1.0, 3.0),)).access_pj(99) == 3.0


def test_energy() -> None:
    dram = energy_of(DEFAULT, replace(NOTHING, inp_bytes=16, insns=1), ROUND)
    assert dram.dram_mj == pytest.approx(32 * 100e-9)
    # inp: 32 KiB in two banks of 16 KiB (4 pJ), so 8 pJ for an element of 16 bytes.
    assert dram.sram_mj == pytest.approx(8e-9)
    step = energy_of(DEFAULT, replace(NOTHING, gemm_steps=1), ROUND)
    assert step.gemm_mj == pytest.approx(256 * 0.74e-9)
    # wgt: 32 banks of 8 KiB; acc: 8 of 16 KiB, read and written; out: 2 of 16 KiB; uop: half of
    # 64 bits from 32 KiB.
    wgt, acc, out = 32 * 2 * 2**0.5, 8 * 4.0, 2 * 4.0
    uop = 0.5 * 2 * 8**0.5
    assert step.sram_mj == pytest.approx((8 + wgt + acc + acc + out + uop) * 1e-9)
    alu = energy_of(DEFAULT, replace(NOTHING, alu_steps=2, alu_reads=3), ROUND)
    assert alu.alu_mj == pytest.approx(2 * 16 * 0.1e-9)
    assert alu.sram_mj == pytest.approx((3 * acc + 2 * (acc + out + uop)) * 1e-9)
    still = energy_of(DEFAULT, replace(NOTHING, cycles=10**8), ROUND)  # one second
    assert still.static_mj == pytest.approx(480 * 1024 * 8 * 1e-12 * 1e3)
    assert still.mj == pytest.approx(still.static_mj)
    slow = energy_of(varied(DEFAULT, clock=5e7), replace(NOTHING, cycles=10**8), ROUND)
    assert slow.mj == pytest.approx(2 * still.mj)


def test_the_own_file_has_a_source_for_each_constant() -> None:
    own = usual_constants()
    names = set(json.loads(CONSTANTS_FILE.read_text()))
    assert set(sources(CONSTANTS_FILE)) == names - {"name"}
    assert 0.3 < area_of(DEFAULT, own).mm2 < 10


def test_a_file_replaces_some(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"dram_pj_per_byte": {"value": 40, "source": "LPDDR"}, "add_pj": 1}')
    found = read_constants(path, usual_constants())
    assert found == replace(usual_constants(), name="mine", dram_pj_per_byte=40.0, add_pj=1.0)
    assert sources(path) == {"dram_pj_per_byte": "LPDDR"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "must be JSON, got"),
        ("[]", "must be a JSON object, got list"),
        ('{"watts": 1}', "must have constants of the model only, got watts; known: name, sram_cel"),
        ('{"add_pj": 0}', "add_pj: must be a positive number, got 0; see constants.json"),
        ('{"add_pj": true}', "add_pj: must be a positive number, got True"),
        ('{"add_pj": {"source": "x"}}', "add_pj: must be a positive number, got None"),
        ('{"add_pj": 1e999}', "add_pj: must be a positive number, got inf"),
        ('{"sram_cells_share": 2}', "sram_cells_share: must be at most 1, got 2"),
        ('{"sram_64_bits_pj": []}', r"sram_64_bits_pj: must be a list of \[bytes, pJ\], the smal"),
        (
            '{"sram_64_bits_pj": [[2, 1], [1, 1]]}',
            r"sram_64_bits_pj: must be a list of \[bytes, pJ\]",
        ),
        ('{"name": 1}', "name: must be a string, got 1"),
        (None, "must be readable, got No such file"),
    ],
)
def test_what_is_no_file(tmp_path: Path, text: str | None, sentence: str) -> None:
    path = tmp_path / "c.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=f"c.json: {sentence}"):
        read_constants(path, usual_constants())


def test_a_whole_file_has_all(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"name": "x"}')
    with pytest.raises(ConfigError, match="c.json: must have sram_cell_um2, got none"):
        read_constants(path, None)


def test_the_page_shows_the_constants() -> None:
    page = (Path(__file__).parents[3] / "docs" / "sweep.md").read_text(encoding="utf-8")
    own = usual_constants()
    cells = (
        f"| {own.sram_cell_um2:g} µm² |", f"| {own.sram_cells_share:g} |",
        f"| {own.multiplier_um2:g} µm² |", f"| {own.adder_um2:g} µm² |",
        f"| {own.multiply_pj:g} pJ |", f"| {own.add_pj:g} pJ |",
        ", ".join(
            f"{pj:g} pJ from {text}"
            for (_, pj), text in zip(
                own.sram_64_bits_pj, ("8 KiB", "32 KiB", "1 MiB"), strict=True
            )
        ),
        f"| {own.dram_pj_per_byte:g} pJ per byte |",
        f"| {own.sram_static_w_per_bit * 1e12:g} pW per bit |",
    )  # fmt: skip
    assert all(cell in page for cell in cells)


def test_the_page_names_every_axis_and_quantity() -> None:
    page = (Path(__file__).parents[3] / "docs" / "sweep.md").read_text(encoding="utf-8")
    assert not [name for name in QUANTITIES if f"`{name}`" not in page]
