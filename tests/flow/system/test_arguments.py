"""Numbers on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from flow.system.arguments import factor, natural, positive, seconds


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [(positive, "1", 1), (natural, "0", 0), (seconds, "0.5", 0.5), (factor, "2", 2.0)],
)
def test_numbers(kind: Callable[[str], float], text: str, value: float) -> None:
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "texts", "words"),
    [
        (positive, ("0", "-1", "1.5", "x"), "a positive integer"),
        (natural, ("-1", "x"), "0 or a positive integer"),
        (seconds, ("0", "-1", "inf", "nan", "x"), "a positive number of seconds"),
        (factor, ("0", "1e6", "nan", "x"), "a number above 0, below 1e6"),
    ],
)
def test_what_is_none(kind: Callable[[str], float], texts: tuple[str, ...], words: str) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match=f"^must be {words}, got {text}$"):
            kind(text)
