"""What the terminal shows is readable at 80 columns, and nothing is cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from flow.explain.render import SHORT_WORDS, render, write_explanation
from flow.explain.words import answered
from flow.results.explanation import PARTS, Change, Explanation, HostOperator
from tests.flow.explain.test_words import explanation, layer


def shown(found: Explanation, width: int = 80, *, heading: bool = True) -> str:
    console = Console(width=width, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(render(answered(found), heading=heading))
    return capture.get()


def test_a_layer() -> None:
    text = shown(explanation(alone=True))
    assert text.startswith("model        net, variant best\nmachine      default: 1×16×16, 100 MHz")
    assert "where the cycles go, on the critical path" in text
    assert "│ GEMM steps: inputs × weights    │    800 │      80.0 │" in text
    assert "with those beside it" in " ".join(text.split())
    assert "│ block of 32     │    300 │" in text
    assert "not tried    wgt buffer ×2: cannot be built" in text
    assert "most expensive" not in text and "\nmodel" not in text
    assert "model" not in shown(explanation(), heading=False)


@pytest.mark.parametrize("width", [80, 132])
def test_a_network(width: int) -> None:
    operators = tuple(
        HostOperator(name=f"t{k}", label=f"n{k} (Sin)", reason="no integers", advice="replace it")
        for k in range(12)
    )
    layers = tuple(layer(name=f"layer{k}.0.downsample.0", cycles=1000 - k) for k in range(12))
    halves = {each.name: each.cycles // 2 for each in layers}
    full = {each.name: each.cycles for each in layers}
    change = Change(
        name="inp ×2, wgt ÷2", sets={}, cycles=6000, base_cycles=12000,
        layers=halves, base_layers=full, sram_bytes=-98304, multipliers=768,
    )  # fmt: skip
    found = explanation(layer=None, layers=layers, host=operators, changes=(change,), cycles=12000)
    text = shown(found, width)
    assert max(map(len, text.splitlines())) <= width
    assert "the 10 most expensive of 12 layers" in text
    assert "layer9.0.downsample.0" in text and "layer10.0" not in text
    assert "-50.0" in text and "-96" in text and "+768" in text
    assert "on host      12 operators, not included in the cycles:" in text
    assert "12 × no integers: n0 (Sin)" in text and "→ replace it" in text


def test_reasons_stand_once() -> None:
    changes = tuple(Change(name=n, sets={}, reason="too wide") for n in ("one", "two"))
    text = shown(explanation(changes=(*changes, Change(name="three", sets={}, reason="else"))))
    assert "not tried    one, two: too wide\n             three: else\n" in text
    assert "what would change" not in text


def test_an_operator_on_the_host() -> None:
    operator = HostOperator(name="t", label="n\x1b (Sin)", reason="no \x1b", advice="replace it")
    text = shown(explanation(layers=(), changes=(), host=(operator,)))
    assert "operator     n\\x1b (Sin)\nruns on      the host\nbecause      no \\x1b\n" in text
    assert "what to do   replace it" in text


def test_the_file(tmp_path: Path) -> None:
    found = answered(explanation())
    path = write_explanation(found, tmp_path)
    assert path.name == "explain.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(found.to_json()))


def test_every_part_has_a_short_word() -> None:
    assert list(SHORT_WORDS) == list(PARTS)
