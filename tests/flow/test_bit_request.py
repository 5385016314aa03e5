"""What users may ask of mixed bits, and what not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from flow.bit_request import Bound, parse_bits, parse_fixed
from vta_config.errors import LimitError


@pytest.mark.parametrize(
    ("cost", "text", "value", "unit"),
    [
        ("latency", "0.5", 0.5, "share"),
        ("latency", "1", 1.0, "share"),
        ("latency", ".25", 0.25, "share"),
        ("latency", "15ms", 0.015, "seconds"),
        ("latency", "15 ms", 0.015, "seconds"),
        ("latency", "0.5s", 0.5, "seconds"),
        ("latency", "8.1Mcycles", 8.1e6, "cycles"),
        ("latency", "1cycles", 1.0, "cycles"),
        ("size", "0", 0.0, "share"),
        ("size", "6MB", 6e6, "bytes"),
        ("size", "500KiB", 512000.0, "bytes"),
        ("bops", "3e10", 3e10, "operations"),
        ("bops", "30G", 3e10, "operations"),
        ("bops", "0.75", 0.75, "share"),
    ],
)
def test_limits(cost: Any, text: str, value: float, unit: str) -> None:
    bound = Bound.parse(cost, text)
    assert bound.value == pytest.approx(value) and (bound.cost, bound.unit) == (cost, unit)


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        ("latency", "15"),
        ("latency", "-0.5"),
        ("latency", "nan"),
        ("latency", "fast"),
        ("latency", "6MB"),
        ("latency", "0ms"),
        ("size", "1.5"),
        ("size", "3 m"),
        ("bops", "3X"),
        ("bops", "1e999"),
        ("size", ""),
    ],
)
def test_limits_that_are_none(cost: Any, text: str) -> None:
    sentence = f"--max-{cost}: must be a share in [0, 1], or a number above 0 with one of the units"
    with pytest.raises(LimitError, match=f"^{re.escape(sentence)} .*, got {re.escape(text)}; give"):
        Bound.parse(cost, text)


def test_limits_as_people_read_them() -> None:
    assert str(Bound.parse("latency", "0.5")) == "0.5 of the range"
    assert str(Bound.parse("size", "6MB")) == "6,000,000 bytes"


def test_fixed_bits() -> None:
    assert parse_fixed([]) == {}
    assert parse_fixed(["conv1=4,8", "a=b=8,4", "conv1=4,8"]) == {"conv1": (4, 8), "a=b": (8, 4)}


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["conv1"], "--fix-bits: must be LAYER=W,A, got conv1; give it as conv1=8,8"),
        (["=8,8"], "--fix-bits: must be LAYER=W,A, got =8,8; give it as conv1=8,8"),
        (
            ["conv1=16,8"],
            "--fix-bits: must be bits of weights and activations that machines have, 2 to 8, got "
            "16,8; give them as W,A, such as 4,8",
        ),
        (
            ["conv1=8"],
            "--fix-bits: must be bits of weights and activations that machines have, 2 to 8, got "
            "8; give them as W,A, such as 4,8",
        ),
        (
            ["conv1=8,8", "conv1=4,8"],
            "--fix-bits: must give conv1 bits once, got W8A8 and W4A8; leave one out",
        ),
    ],
)
def test_fixed_bits_that_are_none(texts: list[str], sentence: str) -> None:
    with pytest.raises(LimitError, match=f"^{re.escape(sentence)}$"):
        parse_fixed(texts)


@pytest.mark.parametrize("text", ["1,8", "8,9", "4", "4;8", "a,b"])
def test_bits_that_machines_lack(text: str) -> None:
    sentence = "--choose-from: must be bits of weights and activations that machines have, 2 to 8"
    with pytest.raises(LimitError, match=sentence):
        parse_bits("--choose-from", text)
