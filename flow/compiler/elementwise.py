"""Arithmetic that a formula needs for whole numbers and for arrays of them alike.

A formula is written once, for numbers: its types say so. With arrays it gives each place what the
numbers at that place would give.
"""

from __future__ import annotations

from math import gcd as gcd_of
from math import lcm as lcm_of
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T", int, float)


def least(first: T, *others: T) -> T:
    """Return the smallest value."""
    return _reduced(first, others, min, np.minimum)


def most(first: T, *others: T) -> T:
    """Return the largest value."""
    return _reduced(first, others, max, np.maximum)


def gcd(a: int, b: int) -> int:
    """Return the greatest common divisor."""
    return _reduced(a, (b,), gcd_of, np.gcd)


def lcm(a: int, b: int) -> int:
    """Return the least common multiple."""
    return _reduced(a, (b,), lcm_of, np.lcm)


def where(condition: bool, yes: T, no: T) -> T:
    """Return `yes` where the condition holds, and `no` elsewhere."""
    if not _is_array(condition):
        return yes if condition else no
    result: T = np.where(condition, yes, no)  # type: ignore[assignment]  # see the module
    return result


def element(values: T, index: int) -> T:
    """Return the number at a place of an array; of a number, itself."""
    result: T = values.item(index) if isinstance(values, np.ndarray) else values
    return result


def look_up(function: Callable[..., int], *values: int) -> int:
    """Return what a function of numbers gives, called once for those that come again."""
    if not any(map(_is_array, values)):
        return function(*values)
    arrays = np.broadcast_arrays(*values)
    keys = np.ravel_multi_index(arrays, [int(a.max(initial=0)) + 1 for a in arrays])
    _, at, places = np.unique(keys, return_index=True, return_inverse=True)
    found = [function(*(int(a[i]) for a in arrays)) for i in at]
    result: int = np.array(found, np.int64)[places]  # type: ignore[assignment]  # see the module
    return result


def _reduced(
    first: T, others: tuple[T, ...], numbers: Callable[[T, T], T], arrays: Callable[[T, T], T]
) -> T:
    for other in others:
        both = arrays if _is_array(first) or _is_array(other) else numbers
        first = both(first, other)
    return first


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray)
