"""Engines compared without the model; a difference is told by tensor, engine and image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.artefacts import compare as module
from flow.artefacts.compare import compare_network, compare_programs, oracle_limits
from flow.artefacts.load import load_artefact, open_artefact
from flow.artefacts.networks import EngineChoice
from flow.data.datasets import random_images
from flow.sim.program_sim import ProgramResult
from flow.sim.tsim import TSim
from flow.system.limits import Limits

IMAGES = random_images((1, 3, 8, 8), 3)
FOUR = ("oracle", "fsim", "fsim in random order", "tsim")


def ignore(done: int, total: int, note: str = "") -> None:
    """Show nothing."""


@pytest.mark.parametrize("folder", ["one", "two"])
def test_all_equal(folder: str, request: pytest.FixtureRequest) -> None:
    artefact, moves = load_artefact(request.getfixturevalue(folder)), []
    found = compare_network(artefact, IMAGES, 3, lambda *move: moves.append(move))
    assert (found.runs, found.mismatches, found.first) == (3, 0, "")
    assert found.engines == (*FOUR, "library") and moves == [(1, 3), (2, 3), (3, 3)]
    layers = sum(len(program.layers) for program in artefact.programs)
    outputs = sum(len(program.outputs) for program in artefact.programs)
    results = 0 if artefact.needs_library else 1
    assert found.tensors == 3 * (3 * (layers + outputs) + outputs + results)


def test_without_library(copy_of_one: Path) -> None:
    text = (copy_of_one / "manifest.json").read_text()
    at = text.index('"library"')
    end = text.index("}", at) + 1
    (copy_of_one / "manifest.json").write_text(text[:at] + '"library": null' + text[end:])
    found = compare_network(load_artefact(copy_of_one), IMAGES, 3, ignore)
    assert found.engines == FOUR and found.mismatches == 0 < found.tensors


def test_a_program_alone(one: Path, fake_driver: Path) -> None:
    artefact = open_artefact(one / "vta_0.vta")
    runs = [[np.full((1, 3, 8, 8), value, np.int8)] for value in (-128, 5)]
    driver = EngineChoice(name="driver", driver=fake_driver)
    found = compare_programs(artefact, runs, 2, ignore, driver)
    assert found.engines == (*FOUR, "driver") and (found.runs, found.mismatches) == (2, 0)


def test_a_difference(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = TSim.run

    def wrong(self: TSim, inputs: Any) -> ProgramResult:
        result = right(self, inputs)
        result.outputs[0][0, 1] += 1
        return result

    monkeypatch.setattr(TSim, "run", wrong)
    found = compare_network(load_artefact(one), IMAGES, 3, ignore)
    assert found.mismatches == 3
    assert found.first.startswith("output ") and "on tsim, image 0: 1 of 5 values" in found.first


def test_a_library_that_differs(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = module.direct_network

    def other(*args: Any) -> Any:
        network = right(*args)
        return lambda image: network(image) * np.float32(2)

    monkeypatch.setattr(module, "direct_network", other)
    found = compare_network(load_artefact(one), IMAGES, 3, ignore)
    assert found.mismatches == 3 and found.first.startswith("results of the library, image 0: ")


def test_the_oracle_takes_small_programs(one: Path) -> None:
    (program,) = load_artefact(one).programs
    few = oracle_limits(program, Limits())
    assert few is not None and few.max_steps == 1 << 23
    wide = oracle_limits(program, Limits(max_steps=1 << 40))
    assert wide is not None and wide.max_steps == 1 << 35
    endless = oracle_limits(program, Limits(max_steps=-1))
    assert endless is not None and endless.max_steps == -1
    assert oracle_limits(program, Limits(max_bytes=20)) is None
