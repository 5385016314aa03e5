"""The sentences: what binds, how far from the best, what helps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flow.explain.words import answered, best_change, bound_by, percent
from flow.results.explanation import (
    PARTS,
    Change,
    ExplainedLayer,
    Explanation,
    HostOperator,
    Reads,
)
from vta_config import VTAConfig


def layer(**changes: object) -> ExplainedLayer:
    own = ExplainedLayer(
        name="conv",
        kind="conv2d",
        program="vta_0",
        cycles=1000,
        bound="gemm",
        parts={"gemm": 800, "alu": 150, "wgt": 40, "between": 10},
        gemm_cycles=800,
        compute_cycles=950,
        bus_cycles=300,
        reads={
            "inp": Reads(bytes=300, distinct_bytes=200),
            "wgt": Reads(bytes=7, distinct_bytes=7),
        },
    )
    return replace(own, **changes)


def explanation(**changes: object) -> Explanation:
    own = Explanation(
        model="net",
        machine=VTAConfig.load("default"),
        variant="best",
        cycles=4000,
        layer="conv",
        layers=(layer(),),
        changes=(
            Change(name="block of 32", sets={}, cycles=300, base_cycles=1000),
            Change(name="bus of 128 bits", sets={}, cycles=995, base_cycles=1000),
            Change(name="wgt buffer ×2", sets={}, reason="cannot be built"),
        ),
    )
    return replace(own, **changes)


def texts(found: Explanation, **told: object) -> dict[str, str]:
    return {answer.about: answer.text for answer in answered(found, **told).answers}


def test_a_layer() -> None:
    assert texts(explanation()) == {
        "layer": "conv (conv2d): 1,000 cycles, 0.010 ms, 25.0 % of the network",
        "bound by": "the GEMM unit: 80 % of the cycles multiply inputs by weights; 15 % ALU steps",
        "at best": "800 cycles on this machine, for its GEMM steps; it takes 25.0 % more",
        "reads": "its inputs 1.5 times: a larger buffer may save that",
        "would help": "block of 32 (-70.0 %)",
    }


def test_a_part_of_a_layer_and_kept_instructions() -> None:
    found = texts(explanation(), part="relu", kept=True)
    assert found["layer"].startswith("conv (conv2d), which relu is a part of: 1,000 cycles")
    assert found["note"].startswith("only what keeps the instructions was tried; vta-flow estimate")


def test_a_network() -> None:
    slow = layer(
        name="fc", cycles=3000, parts={"wgt": 2900, "gemm": 100}, bus_cycles=2500, reads={}
    )
    found = texts(explanation(layer=None, layers=(layer(), slow)))
    assert found == {
        "network": "net, 2 layers on VTA: 4,000 cycles, 0.040 ms",
        "bound by": "the bus: 74 % of the cycles wait for weights from DRAM; 22 % GEMM steps",
        "at best": "2,800 cycles on this machine, for what it reads over a bus of 64 bits; it "
        "takes 42.9 % more",
        "would help": "block of 32 (-70.0 %)",
    }


def test_below_the_bound_and_without_one() -> None:
    ahead = layer(bus_cycles=1500)
    assert texts(explanation(layers=(ahead,)))["at best"] == (
        "1,500 cycles on this machine, for what it reads over a bus of 64 bits; layers before it "
        "load a part of that ahead"
    )
    nothing = layer(gemm_cycles=0, bus_cycles=0)
    assert texts(explanation(layers=(nothing,)))["at best"] == "it multiplies and reads nothing"


def test_what_helps() -> None:
    nothing = explanation(changes=explanation().changes[1:])
    assert texts(nothing)["would help"] == "nothing that was tried saves 1 % of the cycles"
    many = tuple(
        Change(name=f"c{k}", sets={}, cycles=100 * k, base_cycles=1000) for k in range(1, 7)
    )
    assert texts(explanation(changes=many))["would help"] == (
        "c1 (-90.0 %), c2 (-80.0 %), c3 (-70.0 %), and 3 more below"
    )


def test_an_operator_on_the_host() -> None:
    operator = HostOperator(name="t", label="n (Sin)", reason="no integers", advice="replace it")
    found = explanation(layers=(), changes=(), host=(operator,))
    assert texts(found) == {
        "runs on": "the host",
        "because": "no integers",
        "what to do": "replace it",
    }
    assert texts(found, takers=("a", "b"))["would help"] == "VTA runs it with: a, b"
    assert texts(found, takers=())["would help"] == "none of the other machines"
    assert texts(replace(found, layer=None)) == {"runs on": "the host: no layer runs on VTA"}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_words(part: str) -> None:
    assert "99 % of the cycles" in bound_by({"alu" if part == "gemm" else "gemm": 1, part: 99})
    other = "alu" if part == "gemm" else "gemm"
    assert "; 30 % " in bound_by({other: 70, part: 30})
    assert bound_by({**dict.fromkeys(PARTS, 0), part: 0})  # a layer that takes nothing


def test_percent() -> None:
    assert [percent(x) for x in (None, -0.5, 0.25, 0.0, -0.0001, 0.0001)] == [
        "–", "-50.0", "+25.0", "0.0", "0.0", "0.0",
    ]  # fmt: skip


def test_best_change_of_a_layer() -> None:
    one = Change(name="one", sets={}, layers={"a": 9, "b": 99}, base_layers={"a": 10, "b": 100})
    two = Change(name="two", sets={}, layers={"a": 5, "b": 100}, base_layers={"a": 10, "b": 100})
    found = explanation(changes=(one, two))
    assert best_change(found, "a") == (two, -0.5)
    assert best_change(found, "b") == (one, pytest.approx(-0.01))
    assert best_change(found, "c") is None
    assert best_change(explanation(changes=(two,)), "b") is None
