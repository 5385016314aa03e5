"""How much is learned."""

from __future__ import annotations

from typing import Any

import pytest

from relay_passes.learning.options import EFFORTS, BlockLearner
from vta_config.errors import CalibrationError


def test_efforts_grow() -> None:
    quick, usual, published = (EFFORTS[name] for name in ("quick", "default", "published"))
    assert quick.steps < usual.steps < published.steps
    assert quick.images < usual.images < published.images
    assert usual == BlockLearner()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": 0}, "BlockLearner.images: must be at least 1, got 0; choose an effort"),
        ({"steps": -1}, "BlockLearner.steps: must be at least 0, got -1; choose an effort"),
        ({"final_steps": -2}, "BlockLearner.final_steps: must be at least 0, got -2; choose"),
        ({"batch": 0}, "BlockLearner.batch: must be at least 1, got 0; choose an effort"),
        ({"drop": 1.5}, r"BlockLearner.drop: must be in \[0, 1\], got 1.5; 0.5 is usual"),
    ],
)
def test_ranges(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CalibrationError, match=sentence):
        BlockLearner(**changes)
