"""Constraints: what they say, and what is no constraint."""

from __future__ import annotations

import re

import pytest

from flow.machines.axes import choices, sram_bytes, varied
from flow.sweep.where import MOST_CHARS, QUANTITIES, parse
from vta_config import VTAConfig
from vta_config.errors import ConfigError

DEFAULT = VTAConfig.load("default")


def holds(text: str, machine: VTAConfig = DEFAULT, **more: float | str) -> bool:
    values = {**choices(machine), "sram": sram_bytes(machine), "config": "default", **more}
    return parse(text, frozenset({"default", "ultra96"})).test(values.__getitem__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sram<=512KiB", True),
        ("sram <= 480KiB", True),
        ("sram < 480KiB", False),
        ("sram > 0.4MB", True),
        ("block = 16", True),
        ("block == 32 or bus == 64", True),
        ("block == 32 or bus == 64 and batch == 2", False),
        ("(block == 32 or bus == 64) and batch == 1", True),
        ("not block == 32", True),
        ("not (block == 16 and bus == 64)", False),
        ("inp-buffer + wgt-buffer <= 288KiB", True),
        ("wgt-buffer / inp-buffer == 8", True),
        ("2 * inp-buffer - 32KiB == inp-buffer", True),
        ("acc-buffer != 4 * inp-buffer", False),
        ("clock >= 0.1GHz", True),
        ("profile = chisel", True),
        ("profile != chisel-simple", True),
        ("config == ultra96", False),
        ("latency <= 10ms", True),
        ("energy < 1mJ", False),
        ("accuracy >= 99%", True),
        ("block - 16 == 0", True),
        ("block / 0 > 1e300", True),
        ("weight-bits*activation-bits==64", True),
        ("latency * 2 < 20ms and 10ms > latency", True),
        ("latency / 1ms < 30", True),
    ],
)
def test_what_holds(text: str, expected: bool) -> None:
    assert holds(text, latency=0.009, energy=0.002, accuracy=0.995) is expected


def test_another_machine() -> None:
    assert holds("block == 32 and sram <= 1MiB", varied(DEFAULT, block=32))


def test_what_must_be_measured() -> None:
    assert parse("latency<1ms or block=16").measured
    assert not parse("sram<1MiB and area<2mm2").measured
    condition = parse(" sram   <= 1KiB ")
    assert (condition.text, condition.names) == ("sram <= 1KiB", {"sram"})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must have a quantity or a number, got nothing; write it as in 'sram <= 512KiB"),
        ("sram", "must have a comparison, got 'sram'"),
        ("sram <=", "must have a quantity or a number, got nothing"),
        ("sram <= 5MHz", "must have two sides of one kind, got 'a size <= a frequency'"),
        ("sram <= 5XB", "must have a unit of B, KiB, MiB, .*, got 'XB'"),
        ("sram <= 5KiB 6", "must have and, or, or the end, got '6'"),
        ("sram & 5", "must have a quantity, a number or a sign, got '& 5'"),
        ("(sram <= 5KiB", "must have a closing parenthesis, got nothing"),
        ("sram + clock > 1", r"must have numbers of one kind, got 'a size \+ a frequency'"),
        ("sram and block = 1", "must have comparisons around and, or, not, got 'a size'"),
        ("not sram", "must have comparisons around and, or, not, got 'a size'"),
        ("profile < hls", "must have = or != between names, got '<'"),
        ("profile = 3", "must have two sides of one kind, got 'a name = a number'"),
        ("(block = 16) = (bus = 64)", "must have two sides of one kind"),
        ("latency < 30", "must have a unit on both sides, such as 30ms, got 'none'"),
        ("100 <= clock", "must have a unit on both sides, such as 100MHz, got 'none'"),
        ("energy * 2 < 5", "must have a unit on both sides, such as 5mJ, got 'none'"),
        ("accuracy >= 70", "must have a unit on both sides, such as 70%, got 'none'"),
        ("blocks = 16", "must name quantities of a machine, got blocks; known: block, batch"),
        ("__import__('os')", "must have a quantity, a number or a sign"),
        ("(" * 60 + "block = 1" + ")" * 60, "must have at most 50 parentheses in each other"),
        ("not " * 60 + "block = 1", "must have at most 50 parentheses in each other"),
    ],
)
def test_what_is_no_constraint(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as error:
        parse(text)
    assert str(error.value).startswith("--where ")


def test_a_long_one() -> None:
    with pytest.raises(ConfigError, match=f"--where: must have at most {MOST_CHARS} characters"):
        parse("block = 1 or " * 1000)


def test_every_quantity_can_be_named() -> None:
    for name, quantity in QUANTITIES.items():
        units = {"name": "chisel", "frequency": "1Hz", "time": "1s", "energy": "1J", "share": "1%"}
        other = units.get(quantity.kind, "1")
        assert parse(f"{name} != {other}").names == {name}
        assert re.fullmatch(r"[a-z]+(-[a-z]+)?", name)
