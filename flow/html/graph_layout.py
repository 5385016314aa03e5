"""Layered layout of a graph, from top to bottom: rows by the longest path, then few crossings.

Sugiyama, Tagawa and Toda (1981): edges over several rows get a point in each row between; rows are
ordered by the mean place of their neighbours; then boxes move towards their neighbours as far as
the distances between boxes allow, which pool-adjacent-violators does with the least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

#: How often rows are ordered, and boxes moved, down and up.
_ORDERINGS: Final = 8
_MOVES: Final = 12
#: How much a point of a long edge counts, by what a box counts: long edges go around boxes, which
#: stand below each other.
_POINT: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where boxes and edges are.

    Parameters
    ----------
    rows : tuple of int
        The row of each box, from 0.
    centres : tuple of float
        The middle of each box, from 0, to the right.
    edges : tuple of (source, target, points)
        With the places that a long edge takes in the rows between, from above.
    width : float
    """

    rows: tuple[int, ...]
    centres: tuple[float, ...]
    edges: tuple[tuple[int, int, tuple[float, ...]], ...]
    width: float


class _Rows:
    """Boxes and points in rows, with the neighbours above and below of each."""

    def __init__(self, rows: Sequence[int]) -> None:
        self.of: list[int] = list(rows)
        self.boxes = len(rows)
        self.above: list[list[int]] = [[] for _ in rows]
        self.below: list[list[int]] = [[] for _ in rows]

    def point(self, row: int) -> int:
        self.of.append(row)
        self.above.append([])
        self.below.append([])
        return len(self.of) - 1

    def join(self, upper: int, lower: int) -> None:
        if lower not in self.below[upper]:
            self.below[upper].append(lower)
            self.above[lower].append(upper)


def lay_out(
    count: int, edges: Sequence[tuple[int, int]], *, box: float, point: float, gap: float
) -> Layout:
    """Return where to draw the boxes of a graph, and its edges.

    Parameters
    ----------
    count : int
        How many boxes.
    edges : sequence of (source, target)
        Each source comes before its target; others are left out.
    box, point, gap : float
        Widths of a box and of an edge that passes, and the least distance between two.
    """
    kept = [(u, v) for u, v in dict.fromkeys(edges) if 0 <= u < v < count]
    if not count:
        return Layout(rows=(), centres=(), edges=(), width=0.0)
    rows = _Rows(_ranks(count, kept))
    passing: dict[tuple[int, int], int] = {}  # edges from one box share their points
    points: list[tuple[int, ...]] = []
    for source, target in kept:
        upper, own = source, []
        for row in range(rows.of[source] + 1, rows.of[target]):
            lower = passing.get((source, row))
            if lower is None:
                lower = passing[source, row] = rows.point(row)
            rows.join(upper, lower)
            own.append(lower)
            upper = lower
        rows.join(upper, target)
        points.append(tuple(own))
    ordered = _ordered(rows)
    half = [box / 2 if k < count else point / 2 for k in range(len(rows.of))]
    centres = _centres(rows, ordered, half, gap)
    left = min(c - h for c, h in zip(centres, half, strict=True))
    centres = [c - left for c in centres]
    return Layout(
        rows=tuple(rows.of[:count]),
        centres=tuple(centres[:count]),
        edges=tuple(
            (u, v, tuple(centres[k] for k in own)) for (u, v), own in zip(kept, points, strict=True)
        ),
        width=max(c + h for c, h in zip(centres, half, strict=True)),
    )


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the longest path to each box; what nothing leads to stands above its first reader."""
    ranks = [0] * count
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        ranks[target] = max(ranks[target], ranks[source] + 1)
    led = {target for _, target in edges}
    first: dict[int, int] = {}
    for source, target in edges:
        first[source] = min(first.get(source, ranks[target]), ranks[target])
    return [rank if k in led or k not in first else first[k] - 1 for k, rank in enumerate(ranks)]


def _ordered(rows: _Rows) -> list[list[int]]:
    """Return the rows, each in an order with few crossings."""
    found: list[list[int]] = [[] for _ in range(max(rows.of) + 1)]
    for k, own in enumerate(rows.of):
        found[own].append(k)
    place = [0.0] * len(rows.of)

    def renumber(row: list[int]) -> None:
        for i, k in enumerate(row):
            place[k] = i - (len(row) - 1) / 2

    for row in found:
        renumber(row)
    best, fewest = [row[:] for row in found], _crossings(found, rows)
    for sweep in range(_ORDERINGS):
        neighbours = rows.above if sweep % 2 == 0 else rows.below
        for row in found if sweep % 2 == 0 else reversed(found):

            def mean(k: int, neighbours: list[list[int]] = neighbours) -> float:
                near = neighbours[k]
                return sum(place[n] for n in near) / len(near) if near else place[k]

            row.sort(key=mean)
            renumber(row)
        crossings = _crossings(found, rows)
        if crossings < fewest:
            best, fewest = [row[:] for row in found], crossings
        if not fewest:
            break
    return best


def _crossings(found: Sequence[Sequence[int]], rows: _Rows) -> int:
    """Count the pairs of edges between two rows that cross."""
    total = 0
    for row, under in pairwise(found):
        place = {k: i for i, k in enumerate(under)}
        ends = [sorted(place[n] for n in rows.below[k]) for k in row]
        flat = [(i, e) for i, own in enumerate(ends) for e in own]
        total += sum(
            1 for a, (i, e) in enumerate(flat) for j, f in flat[a + 1 :] if i < j and e > f
        )
    return total


def _centres(
    rows: _Rows, ordered: Sequence[Sequence[int]], half: Sequence[float], gap: float
) -> list[float]:
    """Return the middle of each box and point."""
    centres = [0.0] * len(rows.of)
    for row in ordered:
        at = 0.0
        for k in row:
            centres[k] = at + half[k]
            at += 2 * half[k] + gap
        for k in row:
            centres[k] -= (at - gap) / 2
    for move in range(_MOVES):
        down = move % 2 == 0
        for row in ordered if down else reversed(ordered):
            wanted, weights = [], []
            for k in row:
                near = rows.above[k] if down else rows.below[k]
                if move >= _MOVES - 2:  # at last between both
                    near = rows.above[k] + rows.below[k]
                counts = [1.0 if n < rows.boxes else _POINT for n in near]
                total = sum(c * centres[n] for c, n in zip(counts, near, strict=True))
                wanted.append(total / sum(counts) if near else centres[k])
                weights.append(_POINT if k >= rows.boxes or not near else 1.0)
            starts, at = [], 0.0
            for i, k in enumerate(row):
                at += half[k] + (half[row[i - 1]] + gap if i else 0.0)
                starts.append(at)
            free = _rising([w - s for w, s in zip(wanted, starts, strict=True)], weights)
            for k, value, start in zip(row, free, starts, strict=True):
                centres[k] = value + start
    return centres


def _rising(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the rising numbers that are nearest to `values` (pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for value, weight in zip(values, weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, u, m), (b, v, n) = pools[-2:]
            pools[-2:] = [((a * u + b * v) / (u + v), u + v, m + n)]
    return [mean for mean, _, count in pools for _ in range(count)]
