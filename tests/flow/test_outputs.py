"""Outputs side by side: sizes, places, and which network is a classifier."""

from __future__ import annotations

import numpy as np
import pytest

from flow.outputs import Output, as_row, classes_of, slices_of, values_of

LOGITS = Output(name="logits", shape=(1, 5))
MASK = Output(name="mask", shape=(1, 2, 3, 4))


def test_outputs_side_by_side() -> None:
    assert values_of((LOGITS, MASK)) == 29
    assert slices_of((LOGITS, MASK)) == (slice(0, 5), slice(5, 29))
    row = as_row([np.arange(5), np.ones((1, 2, 3, 4), np.int64)])
    assert row.dtype == np.float32 and row.tolist() == [0, 1, 2, 3, 4, *[1] * 24]


@pytest.mark.parametrize(
    ("shape", "is_logits"),
    [
        ((1, 5), True),
        ((1, 5, 1, 1), True),
        ((1, 1), False),
        ((5,), False),
        ((2, 5), False),
        ((1, 5, 2, 1), False),
        ((1, 1, 5), False),
        ((), False),
    ],
)
def test_what_logits_are(shape: tuple[int, ...], is_logits: bool) -> None:
    output = Output(name="o", shape=shape)
    assert output.is_logits == is_logits
    assert classes_of([output]) == (5 if is_logits else None)
    assert classes_of([output, output]) is None
