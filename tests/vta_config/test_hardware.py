"""Machines: presets, original vta_config.json files, derived sizes and every ConfigError."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import configs
from vta_config import VTAConfig, preset_names
from vta_config.errors import ConfigError

#: The sizes of the original configuration files of the stock boards.
STOCK: dict[str, Any] = {
    "TARGET": "pynq",
    "HW_VER": "0.0.1",
    "LOG_INP_WIDTH": 3,
    "LOG_WGT_WIDTH": 3,
    "LOG_ACC_WIDTH": 5,
    "LOG_BATCH": 0,
    "LOG_BLOCK": 4,
    "LOG_UOP_BUFF_SIZE": 15,
    "LOG_INP_BUFF_SIZE": 15,
    "LOG_WGT_BUFF_SIZE": 18,
    "LOG_ACC_BUFF_SIZE": 17,
}
DEFAULT = VTAConfig.load("default")


# ---- presets ------------------------------------------------------------------------------------
def test_presets() -> None:
    stock_boards = ["pynq", "de10nano", "ultra96", "zcu104"]
    assert preset_names() == sorted(["block32", "default", "small", "w4", "w4a4", *stock_boards])


def test_preset_round_trips_through_json(preset: VTAConfig) -> None:
    assert VTAConfig.from_json(preset.to_json()) == preset


@given(configs())
def test_any_machine_round_trips_through_json(config: VTAConfig) -> None:
    assert VTAConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_default_machine() -> None:
    assert (DEFAULT.name, DEFAULT.clock_hz, DEFAULT.bus_bits) == ("default", 100e6, 64)
    assert (DEFAULT.batch, DEFAULT.block) == (1, 16)
    assert (DEFAULT.inp_elem_bytes, DEFAULT.wgt_elem_bytes) == (16, 256)
    assert (DEFAULT.acc_elem_bytes, DEFAULT.out_elem_bytes) == (64, 16)
    assert (DEFAULT.inp_depth, DEFAULT.wgt_depth) == (2048, 1024)
    assert (DEFAULT.acc_depth, DEFAULT.uop_depth) == (2048, 8192)
    assert DEFAULT.bus_bytes == 8


def test_other_presets() -> None:
    ultra96, block32, small = (VTAConfig.load(n) for n in ("ultra96", "block32", "small"))
    assert (ultra96.clock_hz, ultra96.bus_bits, ultra96.block) == (333e6, 128, 16)
    assert (block32.block, block32.wgt_elem_bytes, block32.wgt_depth) == (32, 1024, 256)
    assert (small.inp_depth, small.wgt_depth, small.acc_depth, small.uop_depth) == (
        256,
        64,
        256,
        512,
    )


@pytest.mark.parametrize(
    ("board", "clock_hz", "bus_bits", "burst_beats"),
    [
        ("pynq", 100e6, 64, 256),
        ("de10nano", 100e6, 64, 16),
        ("ultra96", 333e6, 128, 16),
        ("zcu104", 333e6, 128, 16),
    ],
)
def test_presets_of_the_stock_boards(
    board: str, clock_hz: float, bus_bits: int, burst_beats: int
) -> None:
    memory = {"clock_hz": clock_hz, "bus_bits": bus_bits, "burst_beats": burst_beats}
    assert VTAConfig.load(board) == replace(DEFAULT, name=board, **memory)
    assert VTAConfig.from_json({**STOCK, "TARGET": board, "NAME": board}) == VTAConfig.load(board)


@given(configs())
def test_elements_fill_the_buffers(config: VTAConfig) -> None:
    for memory in ("inp", "wgt", "acc"):
        elem_bytes, depth = (
            getattr(config, f"{memory}_{what}") for what in ("elem_bytes", "depth")
        )
        assert elem_bytes * depth == 1 << getattr(config, f"log_{memory}_buff_bytes")
    assert config.uop_depth * 4 == 1 << config.log_uop_buff_bytes


# ---- original files -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("target", "clock_hz", "bus_bits", "burst_beats"),
    [
        ("sim", 100e6, 64, 16),
        ("tsim", 100e6, 64, 16),
        ("pynq", 100e6, 64, 256),
        ("de10nano", 100e6, 64, 16),
        ("ultra96", 333e6, 128, 16),
        ("zcu104", 333e6, 128, 16),
    ],
)
def test_original_file(
    tmp_path: Path, target: str, clock_hz: float, bus_bits: int, burst_beats: int
) -> None:
    path = tmp_path / f"{target}_sample.json"
    path.write_text(json.dumps({**STOCK, "TARGET": target}))
    config = VTAConfig.load(path)
    memory = {"clock_hz": clock_hz, "bus_bits": bus_bits, "burst_beats": burst_beats}
    assert config == replace(DEFAULT, name=f"{target}_sample", **memory)


def test_older_original_file_spells_out_blocks_and_out_sizes() -> None:
    source = {k: v for k, v in STOCK.items() if k != "LOG_BLOCK"}
    source |= {"LOG_BLOCK_IN": 4, "LOG_BLOCK_OUT": 4, "LOG_OUT_WIDTH": 3, "LOG_OUT_BUFF_SIZE": 15}
    assert VTAConfig.from_json(source) == replace(DEFAULT, name="custom", burst_beats=256)


def test_accumulators_are_int32_where_a_file_says_nothing() -> None:
    source = {k: v for k, v in STOCK.items() if k != "LOG_ACC_WIDTH"}
    assert VTAConfig.from_json(source) == VTAConfig.from_json(STOCK)


def test_bursts_are_written_where_they_are_not_stock() -> None:
    """Programs hold the machine as JSON; those of stock bursts keep their bytes."""
    assert "BURST_BEATS" not in DEFAULT.to_json()
    assert VTAConfig.load("pynq").to_json()["BURST_BEATS"] == 256


@pytest.mark.parametrize("name", ["w4", "w4a4"])
def test_narrow_operands_take_half_the_bytes_at_the_depths_of_the_stock_machine(name: str) -> None:
    config = VTAConfig.load(name)
    inp, wgt = config.log_inp_width, config.log_wgt_width
    assert (inp, wgt) == ((3, 2) if name == "w4" else (2, 2))
    assert (config.inp_bits, config.wgt_bits) == (1 << inp, 1 << wgt)
    assert (config.inp_max, config.wgt_max) == (127 if inp == 3 else 7, 7)
    assert config.inp_elem_bytes == config.out_elem_bytes == 16 * config.inp_bits // 8
    assert config.wgt_elem_bytes == 128
    for depth in ("inp_depth", "wgt_depth", "acc_depth", "uop_depth"):
        assert getattr(config, depth) == getattr(DEFAULT, depth)
    stock = {"log_inp_width": 3, "log_wgt_width": 3}
    stock |= {
        f"log_{m}_buff_bytes": getattr(DEFAULT, f"log_{m}_buff_bytes") for m in ("inp", "wgt")
    }
    assert replace(config, name="default", **stock) == DEFAULT


def test_narrow_operands_in_as_many_bytes_have_too_wide_fields() -> None:
    with pytest.raises(
        ConfigError, match=r"custom.gemm: must fit 128 bits .*, got 139 bits; reduce"
    ):
        VTAConfig.from_json({**STOCK, "LOG_INP_WIDTH": 2, "LOG_WGT_WIDTH": 2})


def test_own_keys() -> None:
    own = {"NAME": "mine", "CLOCK_HZ": 2e8, "BUS_BITS": 256, "CAPABILITIES": ["mul"]}
    config = VTAConfig.from_json({**STOCK, **own, "TARGET": "ultra96"})
    assert (config.name, config.clock_hz, config.bus_bits) == ("mine", 2e8, 256)
    assert config.capabilities == {"mul"}


# ---- errors -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"LOG_INP_WIDTH": 4},
            r"custom.LOG_INP_WIDTH: must be an integer in \[2, 3\], got 4; 2 means 4 bits",
        ),
        ({"LOG_WGT_WIDTH": 1}, r"custom.LOG_WGT_WIDTH: must be an integer in \[2, 3\], got 1"),
        ({"LOG_ACC_WIDTH": 4}, r"custom.LOG_ACC_WIDTH: must be 5, got 4"),
        ({"LOG_BATCH": -1}, r"custom.LOG_BATCH: must be an integer in \[0, 4\], got -1"),
        ({"LOG_BLOCK": 8}, r"custom.LOG_BLOCK: must be an integer in \[2, 7\], got 8"),
        ({"LOG_BLOCK": "4"}, r"custom.LOG_BLOCK: must be an integer in \[2, 7\], got '4'"),
        ({"LOG_BLOCK": 4.0}, r"custom.LOG_BLOCK: must be an integer in \[2, 7\], got 4.0"),
        ({"LOG_BATCH": True}, r"custom.LOG_BATCH: must be an integer in \[0, 4\], got True"),
        ({"LOG_UOP_BUFF_SIZE": 99}, r"LOG_UOP_BUFF_SIZE: must be an integer in \[3, 24\], got 99"),
        (
            {"CLOCK_HZ": 0},
            r"custom.CLOCK_HZ: must be a frequency of at least 1 Hz below 2\^32 Hz, got 0; give",
        ),
        (
            {"CLOCK_HZ": "fast"},
            r"custom.CLOCK_HZ: must be a frequency of at least 1 Hz below 2\^32 Hz, got 'fast'",
        ),
        (
            {"CLOCK_HZ": float("nan")},
            r"custom.CLOCK_HZ: must be a frequency of at least 1 Hz below 2\^32 Hz, got nan",
        ),
        ({"CLOCK_HZ": 1 << 32}, "custom.CLOCK_HZ: .* below 2.32 Hz, got 4294967296"),
        ({"CLOCK_HZ": True}, "custom.CLOCK_HZ: .* below 2.32 Hz, got True"),
        (
            {"BUS_BITS": 64.0},
            "custom.BUS_BITS: must be 32, 64, 128, 256 or 512 bits, got 64.0; choose",
        ),
        (
            {"BUS_BITS": 48},
            "custom.BUS_BITS: must be 32, 64, 128, 256 or 512 bits, got 48; choose one of",
        ),
        (
            {"BURST_BEATS": 24},
            r"BURST_BEATS: must be a power of two in \[2, 256\], got 24; 16 is that of DefaultDe10",
        ),
        ({"BURST_BEATS": 512}, r"BURST_BEATS: must be a power of two in \[2, 256\], got 512"),
        ({"BURST_BEATS": "16"}, r"BURST_BEATS: must be a power of two in \[2, 256\], got '16'"),
        ({"BURST_BEATS": True}, r"BURST_BEATS: must be a power of two in \[2, 256\], got True"),
        (
            {"CAPABILITIES": ["mul", "sqrt"]},
            r"CAPABILITIES: must be among mul, acc_8bit, shr_register, got \['sqrt'\]; remove",
        ),
        ({"CAPABILITIES": "mul"}, r"custom.CAPABILITIES: must be a list of names, got 'mul'; \[\]"),
        ({"CAPABILITIES": [1]}, r"custom.CAPABILITIES: must be a list of names, got \[1\]"),
        ({"NAME": 5}, "NAME: must be a string, got 5; name the machine"),
        ({"TIMING": "magic"}, "custom.TIMING: must be among chisel, .*got 'magic'; leave it out"),
        (
            {"LOG_INP_BUFF_SIZE": 4},
            r"two inp elements \(one, double buffered\) of 16 bytes: at least 5, got 4; enlarge",
        ),
        (
            {"LOG_WGT_BUFF_SIZE": 8},
            "LOG_WGT_BUFF_SIZE: must hold at least two wgt elements .* at least 9, got 8",
        ),
        (
            {"LOG_ACC_BUFF_SIZE": 5},
            "LOG_ACC_BUFF_SIZE: must hold at least two acc elements .* at least 7, got 5",
        ),
        (
            {"LOG_BLOCK_IN": 5},
            "custom.LOG_BLOCK_IN: must equal LOG_BLOCK, got 5; VTA blocks",
        ),
        ({"LOG_BLOK": 4}, "custom.LOG_BLOK: is not a known key; known: LOG_INP_WIDTH, "),
        (
            {"LOG_UOP_BUFF_SIZE": 16},
            r"custom.gemm: must fit 128 bits with its indices .* \(inp 11, wgt 10, acc 11, "
            r"uop 14 bits\), got 148 bits; reduce LOG_ACC_BUFF_SIZE by 7 or LOG_UOP_BUFF_SIZE by 1",
        ),
        ({"LOG_INP_BUFF_SIZE": 16}, "custom.gemm: must fit 128 bits with .* got 138 bits"),
        (
            {"LOG_WGT_BUFF_SIZE": 19, "LOG_INP_BUFF_SIZE": 14},
            "custom.uop: must fit 32 bits with .* got 43 bits; reduce LOG_WGT_BUFF_SIZE by 1 or",
        ),
        (
            {
                "LOG_BLOCK": 2,
                "LOG_INP_BUFF_SIZE": 19,
                "LOG_WGT_BUFF_SIZE": 6,
                "LOG_ACC_BUFF_SIZE": 7,
            },
            r"LOG_INP_BUFF_SIZE: must hold at most 65536 elements \(sram.*\), got 1310",
        ),
    ],
)
def test_impossible_machine(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        VTAConfig.from_json({**STOCK, **change})


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("LOG_INP_BUFF_SIZE", 32768, r"in \[3, 28\], got 32768; .* logarithms: 15 means 32768"),
        ("LOG_BLOCK", 32, "base-2 logarithms: 5 means 32"),
        ("LOG_BLOCK", 1, "base-2 logarithms: 7 means 128"),
        ("LOG_WGT_WIDTH", 4, "2 means 4 bits, 3 means 8 bits"),
        ("LOG_ACC_WIDTH", 4, "must be 5, got 4; accumulators have 32 bits"),
    ],
)
def test_sizes_are_logarithms(key: str, value: int, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        VTAConfig.from_json({**STOCK, key: value})


@given(
    inp=st.integers(5, 20), wgt=st.integers(9, 22), acc=st.integers(7, 20), uop=st.integers(3, 18)
)
def test_what_an_error_advises_can_be_built(inp: int, wgt: int, acc: int, uop: int) -> None:
    sizes = {"INP": inp, "WGT": wgt, "ACC": acc, "UOP": uop}
    source = {**STOCK, **{f"LOG_{name}_BUFF_SIZE": size for name, size in sizes.items()}}
    try:
        VTAConfig.from_json(source)
    except ConfigError as error:
        for key, less in re.findall(r"(LOG_\w+) by (\d+)", str(error)):
            VTAConfig.from_json({**source, key: source[key] - int(less)})


def test_missing_key() -> None:
    source = {k: v for k, v in STOCK.items() if k != "LOG_BATCH"}
    with pytest.raises(
        ConfigError, match="custom: must have the key LOG_BATCH; see vta_config/pres"
    ):
        VTAConfig.from_json(source)


def test_unknown_preset() -> None:
    sentence = (
        "nope: is neither a preset nor a readable file; presets: block32, de10nano, default, pynq"
    )
    with pytest.raises(ConfigError, match=sentence):
        VTAConfig.load("nope")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"", b"[" * 100_000])
def test_file_that_is_not_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.json: is not JSON; presets: "):
        VTAConfig.load(path)


def test_file_that_is_no_object(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[]")
    with pytest.raises(
        ConfigError, match=r"list\.json: must be a JSON object, got list; see vta_conf"
    ):
        VTAConfig.load(path)
