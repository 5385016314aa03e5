"""How long variants learn is asked for; what they learn is their own."""

from __future__ import annotations

from dataclasses import replace

from flow.learn_request import EFFORT_NAMES, USUAL_EFFORT, LearnRequest
from relay_passes.learning.options import EFFORTS, BlockLearner


def test_a_variant_keeps_what_it_learns() -> None:
    own = BlockLearner(steps=7, drop=0.25, learned_scales=False, seed=3)
    assert LearnRequest().applied(own) == own
    assert LearnRequest(device="cuda").applied(own) == replace(own, device="cuda")
    quick, found = EFFORTS["quick"], LearnRequest(effort="quick").applied(own)
    assert (found.images, found.steps, found.final_steps) == (
        quick.images, quick.steps, quick.final_steps,
    )  # fmt: skip
    assert (found.drop, found.learned_scales, found.seed) == (0.25, False, 3)


def test_every_effort_has_a_name() -> None:
    assert USUAL_EFFORT in EFFORT_NAMES and set(EFFORT_NAMES) == set(EFFORTS)
    assert EFFORTS[USUAL_EFFORT] == BlockLearner()
