"""The Pareto front: which machines no other one beats, and for each other one what beats it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from statistics import median
from typing import TypeAlias

#: Numbers of a point by quantity; all are of the same quantities, and smaller is better.
Numbers: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A machine with a network on it.

    Parameters
    ----------
    key : hashable
        What tells it from others.
    numbers : mapping of str to float
        What is compared, by quantity; smaller is better.
    choices : mapping of str to hashable
        What was chosen, by axis.
    """

    key: Hashable
    numbers: Numbers
    choices: Mapping[str, Hashable]


def dominates(a: Numbers, b: Numbers) -> bool:
    """Tell whether `a` is nowhere worse than `b`, and somewhere better."""
    return all(a[k] <= b[k] for k in b) and any(a[k] < b[k] for k in b)


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other one dominates, in their order; equal ones stay together."""
    names = sorted(points[0].numbers) if points else []
    order = sorted(points, key=lambda p: tuple(p.numbers[n] for n in names))
    found: list[Point] = []
    for point in order:  # what dominates a point comes before it
        if not any(dominates(other.numbers, point.numbers) for other in found):
            found.append(point)
    keys = {point.key for point in found}
    return [point for point in points if point.key in keys]


def dominating(point: Point, best: Sequence[Point]) -> Point | None:
    """Return the point of a front that shows best why another is not on it; None where none does.

    Of those that dominate it the one with the fewest other choices; of these the one that is
    better by the largest factor in all.
    """
    able = [p for p in best if dominates(p.numbers, point.numbers)]
    if not able:
        return None
    return min(able, key=lambda p: (len(differences(p, point)), -_gain(p.numbers, point.numbers)))


def differences(a: Point, b: Point) -> list[str]:
    """Return the axes in which two points have chosen otherwise."""
    return [k for k in b.choices if a.choices.get(k) != b.choices[k]]


def better_in(a: Numbers, b: Numbers) -> list[str]:
    """Return the quantities in which `a` is better than `b`."""
    return [k for k in b if a[k] < b[k]]


def _gain(a: Numbers, b: Numbers) -> float:
    total = 0.0
    for k in b:
        if a[k] > 0 and b[k] > 0:
            total += log(b[k] / a[k])
        elif a[k] != b[k]:
            total += b[k] - a[k]
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What another value of one axis changes, all other choices being the same.

    Parameters
    ----------
    axis : str
    low, high : hashable
        The values that are compared, one after the other in the list of the axis.
    pairs : int
        Of machines that differ in nothing else.
    factors : mapping of str to float or None
        By quantity: the median of high / low; None where a number is not positive.
    differences : mapping of str to float
        By quantity: the median of high - low.
    high_dominates, low_dominates : int
        Pairs in which one is nowhere worse and somewhere better.
    """

    axis: str
    low: Hashable
    high: Hashable
    pairs: int
    factors: Mapping[str, float | None]
    differences: Mapping[str, float]
    high_dominates: int
    low_dominates: int


def effects(points: Sequence[Point], axes: Mapping[str, Sequence[Hashable]]) -> list[Effect]:
    """Compare neighbouring values of each axis over all pairs that differ in nothing else."""
    found = []
    for axis, values in axes.items():
        rest: dict[tuple[Hashable, ...], dict[Hashable, Point]] = {}
        for point in points:
            others = tuple((k, v) for k, v in point.choices.items() if k != axis)
            rest.setdefault(others, {})[point.choices[axis]] = point
        for low, high in pairwise(values):
            pairs = [(g[low], g[high]) for g in rest.values() if low in g and high in g]
            if pairs:
                found.append(_effect(axis, low, high, pairs))
    return found


def _effect(
    axis: str, low: Hashable, high: Hashable, pairs: Sequence[tuple[Point, Point]]
) -> Effect:
    names = list(pairs[0][0].numbers)
    factors: dict[str, float | None] = {}
    for name in names:
        both = [(a.numbers[name], b.numbers[name]) for a, b in pairs]
        factors[name] = median(y / x for x, y in both) if min(map(min, both)) > 0 else None
    return Effect(
        axis=axis,
        low=low,
        high=high,
        pairs=len(pairs),
        factors=factors,
        differences={
            name: median(b.numbers[name] - a.numbers[name] for a, b in pairs) for name in names
        },
        high_dominates=sum(dominates(b.numbers, a.numbers) for a, b in pairs),
        low_dominates=sum(dominates(a.numbers, b.numbers) for a, b in pairs),
    )
