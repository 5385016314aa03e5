"""Numbers with units."""

from __future__ import annotations

import math
import re

import pytest

from flow.machines.units import (
    FREQUENCIES,
    SIZES,
    TIMES,
    read_number,
    shown_bytes,
    shown_hertz,
)
from vta_config.errors import ConfigError


def test_numbers_are_read_with_and_without_units() -> None:
    assert read_number("32KiB", SIZES, "x") == 32768
    assert read_number(" 1.5 MiB ", SIZES, "x") == 3 << 19
    assert read_number("333MHz", FREQUENCIES, "x") == 333_000_000
    assert read_number("2e8", FREQUENCIES, "x") == 200_000_000
    assert read_number("10ms", TIMES, "x") == pytest.approx(0.01)
    assert isinstance(read_number("64", {}, "x"), int)


@pytest.mark.parametrize("text", ["", "KiB", "3 apples", "1e", "0x10", "nan", "1,2"])
def test_what_is_no_number(text: str) -> None:
    sentence = f"--axis x: must be a number, with one of B, .*, got {re.escape(repr(text))}; check"
    with pytest.raises(ConfigError, match=sentence):
        read_number(text, SIZES, "--axis x")


def test_infinite() -> None:
    with pytest.raises(ConfigError, match="x: must be finite, got '1e999'; give a smaller number"):
        read_number("1e999", {}, "x")
    assert not math.isinf(read_number("1e300", {}, "x"))


def test_shown_numbers_are_read_again() -> None:
    for value, text in ((32768, "32KiB"), (3 << 20, "3MiB"), (1 << 30, "1GiB"), (100, "100B")):
        assert shown_bytes(value) == text
        assert read_number(text, SIZES, "x") == value
    assert shown_bytes(1_234_567) == "1234567B"
    for value, text in ((1e8, "100MHz"), (1.2e9, "1.2GHz"), (333e6, "333MHz"), (50, "50Hz")):
        assert shown_hertz(value) == text
        assert read_number(text, FREQUENCIES, "x") == value
    assert shown_hertz(1500) == "1.5kHz"
