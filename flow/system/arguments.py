"""Types of arguments on the command line: numbers in a range, else argparse's sentence."""

from __future__ import annotations

import argparse
import math


def positive(text: str) -> int:
    """Read a positive integer."""
    return _integer(text, 1, "a positive integer")


def natural(text: str) -> int:
    """Read 0 or a positive integer."""
    return _integer(text, 0, "0 or a positive integer")


def seconds(text: str) -> float:
    """Read a positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, got {text}")
    return value


def _integer(text: str, least: int, words: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"must be {words}, got {text}")
    return value


def factor(text: str) -> float:
    """Read a number above 0, below 1e6."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be a number above 0, below 1e6, got {text}")
    return value
