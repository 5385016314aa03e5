"""Where fields lie on any machine: encoder, decoder, C++ and the page against a C compiler's rule.

tests/c_layout.py packs bit-fields with the platform's rule; the golden file has what a C compiler
made of the original's declarations on 100 machines.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flow.program.asm import assemble_all, disassemble
from flow.sim.core_library import core_function
from tests.c_layout import Positions, positions
from vta_config import VTAConfig, preset_names
from vta_config.config_words import config_words
from vta_config.errors import ConfigError, DecodeError
from vta_config.generate import page
from vta_config.isa import Insn, Opcode, decode, decode_uop, encode, encode_uop

OPCODES = {"LOAD": Opcode.LOAD, "GEMM": Opcode.GEMM, "ALU": Opcode.ALU}
#: The order of the numbers that the core's decoder gives.
CORE = (
    "opcode pop_prev pop_next push_prev push_next memory_type sram_base dram_base y_size x_size "
    "x_stride y_pad_0 y_pad_1 x_pad_0 x_pad_1 reset uop_begin uop_end iter_out iter_in "
    "dst_factor_out dst_factor_in src_factor_out src_factor_in wgt_factor_out wgt_factor_in "
    "alu_opcode use_imm imm"
).split()
#: What the core refuses or leaves out while it decodes.
CORE_LIMITS = {"opcode": None, "memory_type": 3, "alu_opcode": 3, "reset": None}


def pack(places: Positions, values: Mapping[str, int]) -> int:
    return sum((values.get(n, 0) & ((1 << bits) - 1)) << lsb for n, lsb, bits in places)


def draw(places: Positions, rng: random.Random) -> dict[str, int]:
    """Draw a value for every field, with all bits of some set; imm is signed."""
    values = {}
    for name, _, bits in places:
        top = (1 << bits) - 1
        value = rng.choice((0, top, rng.randint(0, top)))
        values[name] = value - (1 << bits) if name == "imm" and value >> (bits - 1) else value
    return values


def check_insn(config: VTAConfig, name: str, places: Positions, rng: random.Random) -> None:
    opcode = OPCODES[name]
    values = {**draw(places, rng), "opcode": int(opcode)}
    data = pack(places, values).to_bytes(16, "little")
    insn = Insn(opcode, {n: v for n, v in values.items() if n != "opcode"})
    assert encode(insn, config) == data
    assert decode(data, config) == insn
    # The core knows what memory types and ALU opcodes there are, and ignores reset of an ALU.
    legal = {n: min(v, CORE_LIMITS.get(n) or v) for n, v in values.items()}
    legal["reset"] = legal.get("reset", 0) if name == "GEMM" else 0
    data = pack(places, legal).to_bytes(16, "little")
    numbers = core_function("vta.decode_insn")(config_words(config), data)
    got = dict(zip(CORE, map(int, numbers), strict=True))
    assert got == {n: legal.get(n, 0) for n in CORE}


def check_uop(config: VTAConfig, places: Positions, rng: random.Random) -> int:
    fields = draw(places, rng)
    word = pack(places, fields)
    assert encode_uop(config, **fields) == word
    assert decode_uop(word, config) == fields
    numbers = core_function("vta.decode_uop")(config_words(config), word)
    assert [int(n) for n in numbers] == list(fields.values())
    return word


def check_text(config: VTAConfig, uops: list[int], rng: random.Random, golden: Any) -> None:
    insns = [Insn(OPCODES[n], draw(golden[n][1:], rng)) for n in ("GEMM", "ALU") for _ in range(3)]
    again = assemble_all(disassemble(insns, config, uops), config)
    assert again.uops == uops
    assert [encode(i, config) for i in again.insns] == [encode(i, config) for i in insns]


def read_page(config: VTAConfig) -> dict[str, Positions]:
    """Read the tables of a machine's page: heading to fields."""
    tables: dict[str, Positions] = {}
    for part in page(config).split("\n## ")[1:]:
        rows = re.findall(r"^\| (\d+)(?:\.\.(\d+))? \| `(\w+)` \|", part, re.M)
        tables[part.split("\n")[0]] = [
            (name, int(low), int(high or low) - int(low) + 1) for low, high, name in rows
        ]
    return tables


def check(config: VTAConfig, golden: Mapping[str, Positions], seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(4):
        for name in OPCODES:
            if name in golden:
                check_insn(config, name, golden[name], rng)
    uops = [check_uop(config, golden["UOP"], rng) for _ in range(8)]
    check_text(config, uops, rng, golden)
    tables = read_page(config)
    assert tables["GEMM, FINISH"] == golden["GEMM"]
    assert tables["ALU"] == golden["ALU"]
    assert tables["micro-op"] == golden["UOP"]


def by_rule(keys: Mapping[str, int]) -> dict[str, Positions] | None:
    """Return the positions by C's rule; None where instructions or micro-ops grow."""
    whole = {name: positions(keys, name) for name in (*OPCODES, "UOP")}
    sizes = {name: 4 if name == "UOP" else 16 for name in whole}
    if any(size > sizes[name] for name, (_, size) in whole.items()):
        return None
    return {name: places for name, (places, _) in whole.items()}


@pytest.mark.parametrize("name", preset_names())
def test_presets(name: str) -> None:
    config = VTAConfig.load(name)
    golden = by_rule(config.to_json())
    assert golden is not None
    check(config, golden, seed=0)


def test_presets_that_the_page_shows() -> None:
    """The small machine's dst_factor_in would straddle, the stock machine's dst_factor_out."""
    small = dict((n, lsb) for n, lsb, _ in read_page(VTAConfig.load("small"))["GEMM, FINISH"])
    stock = dict((n, lsb) for n, lsb, _ in read_page(VTAConfig.load("default"))["GEMM, FINISH"])
    assert (small["dst_factor_out"], small["dst_factor_in"]) == (55, 64)
    assert (stock["dst_factor_out"], stock["dst_factor_in"]) == (64, 75)


@pytest.mark.parametrize("part", range(4))
def test_random_machines(part: int) -> None:
    """Machines are accepted exactly where C needs at most 16 bytes an instruction, 4 a micro-op."""
    rng = random.Random(part)
    accepted = 0
    for seed in range(150):
        keys = {
            "LOG_BATCH": rng.randint(0, 2),
            "LOG_BLOCK": rng.randint(2, 6),
            "LOG_INP_WIDTH": rng.choice((2, 3)),
            "LOG_WGT_WIDTH": rng.choice((2, 3)),
            "LOG_UOP_BUFF_SIZE": rng.randint(3, 17),
            "LOG_INP_BUFF_SIZE": rng.randint(8, 17),
            "LOG_WGT_BUFF_SIZE": rng.randint(10, 19),
            "LOG_ACC_BUFF_SIZE": rng.randint(10, 18),
        }
        try:
            golden = by_rule(keys)
        except ValueError:  # a bit-field of no bits: a buffer of one element or none
            golden = None
        if golden is None:
            with pytest.raises(ConfigError):
                VTAConfig.from_json(keys)
            continue
        accepted += 1
        check(VTAConfig.from_json(keys), golden, seed)
    assert accepted > 30


def test_golden_layouts(shared_data: Path) -> None:
    text = (shared_data / "golden" / "isa_layouts" / "layouts.json").read_text()
    machines = json.loads(text)
    assert len(machines) == 100
    for seed, machine in enumerate(machines):
        config = VTAConfig.from_json(machine["config"])
        golden = {n: [tuple(f) for f in machine[n]] for n in ("GEMM", "ALU", "UOP")}
        check(config, golden, seed)
        assert {n: positions(machine["config"], n)[0] for n in golden} == golden


def test_the_core_decodes_one_instruction() -> None:
    words = config_words(VTAConfig.load("default"))
    with pytest.raises(DecodeError, match="insn: must be 16 bytes, got 15"):
        core_function("vta.decode_insn")(words, bytes(15))
