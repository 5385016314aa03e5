"""A machine with other choices."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from flow.machines.axes import AXES, axis_of, choices, refusal, sram_bytes, told, varied
from vta_config import VTAConfig, preset_names
from vta_config.errors import ConfigError

DEFAULT = VTAConfig.load("default")


def test_one_choice() -> None:
    found = varied(DEFAULT, block=32)
    assert found == replace(DEFAULT, log_block=5, name="default block=32")
    assert varied(DEFAULT, inp_buffer=16384).log_inp_buff_bytes == 14
    assert varied(DEFAULT, clock=2e8).clock_hz == 2e8
    assert varied(DEFAULT, bus=128, profile="hls").name == "default bus=128 profile=hls"
    assert varied(DEFAULT, block=16) == DEFAULT  # what it is already
    assert varied(DEFAULT, "mine", bus=32).name == "mine"


def test_narrow_operands_keep_the_elements_of_their_buffers() -> None:
    w4 = VTAConfig.load("w4")
    assert varied(DEFAULT, "w4", weight_bits=4) == w4
    both = varied(DEFAULT, "w4a4", weight_bits=4, activation_bits=4)
    assert both == VTAConfig.load("w4a4")
    assert varied(w4, "default", weight_bits=8) == DEFAULT
    given = varied(DEFAULT, weight_bits=4, wgt_buffer=64 << 10)
    assert (given.wgt_bits, given.log_wgt_buff_bytes) == (4, 16)


def test_every_preset_is_its_choices() -> None:
    for name in preset_names():
        machine = VTAConfig.load(name)
        own = choices(machine)
        assert varied(machine, **own) == machine
        assert varied(DEFAULT, name, **own) == machine
        for key, value in choices(machine).items():
            assert AXES[key].read(told(key, value).partition("=")[2]) == value


def test_sram() -> None:
    # 32 + 256 + 128 + 32 KiB, and out: 2,048 elements of 16 bytes.
    assert sram_bytes(DEFAULT) == (32 + 256 + 128 + 32 + 32) << 10


def test_an_unknown_axis_names_the_known_ones() -> None:
    sentence = "--axis: must name an axis of a machine, got blocks; known: block, batch, inp-buffer"
    with pytest.raises(ConfigError, match=sentence):
        varied(DEFAULT, blocks=16)
    assert axis_of("weight_bits").name == "weight-bits"


@pytest.mark.parametrize(
    ("axes", "sentence"),
    [
        ({"block": 24}, "axis block: must be a power of two, got 24; give 16 or 32"),
        ({"wgt_buffer": 10240}, "must be a power of two, got 10KiB; give 8KiB or 16KiB"),
        ({"block": True}, "axis block: must be a power of two, got True"),
        ({"block": 0}, "axis block: must be a power of two, got 0; give one, such as 16"),
        (
            {"inp_buffer": "x"},
            "axis inp-buffer: must be a power of two, got x; give one, such as 16B",
        ),
        ({"bus": 48}, "axis bus: must be among 32, 64, 128, 256, 512, got 48; choose one"),
        ({"weight_bits": 2}, "axis weight-bits: must be among 4, 8, got 2"),
        ({"profile": "x"}, "axis profile: must be among chisel, chisel-simple, hls, got x"),
        ({"clock": "fast"}, "axis clock: must be a number, got fast; give one, with its unit"),
    ],
)
def test_what_is_no_choice(axes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        varied(DEFAULT, **axes)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["100", " 2e8 ", "100."])
def test_a_clock_without_its_unit(text: str) -> None:
    sentence = rf"--axis clock: must have a unit of Hz, kHz, MHz, GHz, got '{re.escape(text)}'; "
    with pytest.raises(ConfigError, match=sentence + "write it as in .*MHz"):
        AXES["clock"].read(text)
    assert AXES["clock"].read("100 MHz") == 100_000_000
    assert AXES["inp-buffer"].read("32768") == 32768  # bytes


def test_a_machine_that_cannot_be_built() -> None:
    with pytest.raises(ConfigError, match="default inp-buffer=64KiB.gemm: must fit 128 bits"):
        varied(DEFAULT, inp_buffer=64 << 10)
    assert refusal(DEFAULT, inp_buffer=64 << 10).startswith("gemm: must fit 128 bits")
    assert refusal(DEFAULT, inp_buffer=8 << 10) == ""
    with pytest.raises(ConfigError, match="CLOCK_HZ: must be a frequency"):
        varied(DEFAULT, clock=0)
