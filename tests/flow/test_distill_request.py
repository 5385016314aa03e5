"""What is asked of distilling, and what it means without being asked."""

from __future__ import annotations

from flow.distill_request import DistillRequest
from relay_passes.calibration.distill import DistillOptions


def test_what_is_not_given_is_left_to_the_method() -> None:
    usual = DistillOptions()
    assert DistillRequest(images=usual.images).options() == usual
    given = DistillRequest(
        images=3, batch=2, steps=7, seed=5, device="cuda", generator=False, swing=False
    )
    assert given.options() == DistillOptions(
        images=3, batch=2, steps=7, seed=5, device="cuda", generator=False, swing=False
    )
