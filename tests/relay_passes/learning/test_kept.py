"""What a learner has finished is kept, and taken over by the same run only."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tvm

from relay_passes.quantize_model import prepare
from relay_passes.variants import RECIPES
from tests.relay_passes.learning.test_learn import TINY, learner
from tests.relay_passes.learning.test_network import rounded
from tests.relay_passes.models import residual_net

pytest.importorskip("torch")


class Stopping:
    """Keeps stages as arrays, and stops the run behind one of them."""

    def __init__(self, last: int = 99) -> None:
        self.stages: dict[tuple[str, int], Any] = {}
        self.last = last

    def load(self, key: str, number: int) -> Any:
        return self.stages.get((key, number))

    def save(self, key: str, number: int, arrays: Any) -> None:
        self.stages[key, number] = arrays
        if number >= self.last:
            raise KeyboardInterrupt


@pytest.mark.parametrize("last", [0, 2, 4])
def test_learning_goes_on_behind_the_last_finished_stage(last: int) -> None:
    state = rounded(prepare(residual_net()), RECIPES["w4a8"].options)
    whole = learner(state)
    expected = whole.learned()
    kept = Stopping(last)
    with pytest.raises(KeyboardInterrupt):
        learner(state, kept=kept).learned()
    assert len(kept.stages) == last + 1
    kept.last = 99
    told: list[int] = []
    again = learner(state, kept=kept, progress=lambda done, *_: told.append(done))
    found = again.learned()
    assert found.scales == expected.scales
    assert all((found.weights[n] == w).all() for n, w in expected.weights.items())
    tvm.ir.assert_structural_equal(found.mod, expected.mod)
    assert [name for name, _, _ in again.log] == [name for name, _, _ in whole.log]
    assert told[: last + 1] == [min(TINY.steps * (i + 1), 19) for i in range(last + 1)]
    assert told[-1] == 19


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"steps": 5}, {"images": 7}, {"learned_scales": False}]
)
def test_another_run_takes_nothing_over(change: dict[str, Any]) -> None:
    state = rounded(prepare(residual_net()), RECIPES["w4a8"].options)
    kept = Stopping()
    learner(state, kept=kept).learned()
    before = {key for key, _ in kept.stages}
    learner(state, replace(TINY, **change), kept=kept).learned()
    assert len({key for key, _ in kept.stages} - before) == 1


def test_arrays_of_another_stage_are_not_taken() -> None:
    state = rounded(prepare(residual_net()), RECIPES["w4a8"].options)
    kept = Stopping()
    expected = learner(state, kept=kept).learned()
    (key, _), first = next(iter(kept.stages.items()))
    kept.stages[key, 0] = {**first, "rate.0": first["rate.0"][:1]}
    found = learner(state, kept=kept).learned()
    assert all((found.weights[n] == w).all() for n, w in expected.weights.items())


@pytest.mark.slow
def test_the_key_is_the_same_in_every_process() -> None:
    """Python puts sets of names in another order each time."""
    script = (
        "from relay_passes.quantize_model import prepare\n"
        "from relay_passes.variants import RECIPES\n"
        "from tests.relay_passes.learning.test_learn import learner\n"
        "from tests.relay_passes.learning.test_network import rounded\n"
        "from tests.relay_passes.models import residual_net\n"
        "state = rounded(prepare(residual_net()), RECIPES['w4a8'].options)\n"
        "print(learner(state)._key)\n"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[3],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(keys) == 1 and len(keys.pop()) == 65
