"""What reports say of bits that were chosen layer by layer."""

from __future__ import annotations

import io
import json
from dataclasses import replace

from rich.console import Console

from flow.results.bit_choice import BitChoice, LayerBits, bit_lines, bits_table, choice_lines

CHOICE = BitChoice(
    layers=(
        LayerBits(
            name="conv1", bits=(8, 8), fixed=True, weights=100, macs=2_000_000,
            cycles={(8, 8): 40}, omega={"measured": {(8, 8): 0.0, (4, 8): 0.5}},
        ),
        LayerBits(
            name="conv[2]", bits=(4, 8), fixed=False, weights=1000, macs=3_000_000,
            cycles={(8, 8): 80, (4, 8): 50}, omega={"measured": {(8, 8): 0.0, (4, 8): 0.25}},
        ),
    ),
    sensitivity="measured",
    perturbation=0.25,
    limits={"latency": 100.0},
    ranges={"latency": (90.0, 120.0), "size": (600.0, 1100.0), "bops": (1e9, 2e9)},
    costs={"latency": 90.0, "size": 600.0, "bops": 1e9},
    measured_cycles=91,
    remarks=("a sentence",),
)  # fmt: skip


def test_lines() -> None:
    assert bit_lines(CHOICE) == [
        "1 layers W4A8, 1 layers W8A8; latency 100; Ω 0.25 (measured)",
        "0.001 MB of weights, 1 G bit operations, 90 cycles predicted, 91 measured (+1.11%)",
        "a sentence",
    ]
    free = replace(CHOICE, limits={}, measured_cycles=None)
    assert "no limit" in bit_lines(free)[0] and "measured" not in bit_lines(free)[1]


def test_lines_of_a_report() -> None:
    lines = choice_lines([("best", None), ("mixed", CHOICE)])
    assert lines[0].startswith("choice     mixed: 1 layers W4A8")
    assert lines[2] == "           mixed: a sentence" and choice_lines([("best", None)]) == []


def test_json() -> None:
    value = CHOICE.to_json()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert value["predicted_cycles"] == 90 and value["measured_cycles"] == 91
    assert value["layers"][1]["cycles"] == {"W8A8": 80, "W4A8": 50}
    assert value["layers"][1]["omega"] == {"measured": {"W8A8": 0.0, "W4A8": 0.25}}
    assert CHOICE.bits == {"conv1": (8, 8), "conv[2]": (4, 8)}


def test_table() -> None:
    console = Console(file=io.StringIO(), width=140, markup=False)
    console.print(bits_table(CHOICE))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "W8A8 fixed" in shown and "conv[2]" in shown and "0.25" in shown
