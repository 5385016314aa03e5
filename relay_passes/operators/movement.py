"""Movement: where each number of a tensor that is only copied together comes from.

A tensor that is a slice, a concatenation, a shuffle or an enlargement of others holds copies of
their numbers. A `Movement` says of which, in parts: within a part the channel, the row and the
column of a number depend on the channel, the row and the column of the copy alone. Where copies of
neighbours lie apart, as those of an enlargement by 2, each place between them is a part of its own.
Interpolation adds copies, each times a factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relay_passes.operators.interpolation import Line

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Copies from one source.

    Parameters
    ----------
    source : int
        The place of the source among the inputs.
    channels : int64[C]
        Of the source, for each channel of the result; -1 where it has none of this part.
    rows, columns : int64[R], int64[S]
        Of the source, for each row and column of the result that is `phase` beyond a multiple of
        the movement's step; -1 where there is no copy.
    phase : (int, int)
        (vertical, horizontal).
    factor : int
        What the copies are multiplied by.
    """

    source: int
    channels: Indices
    rows: Indices
    columns: Indices
    phase: tuple[int, int] = (0, 0)
    factor: int = 1

    @property
    def keeps_pixels(self) -> bool:
        """Whether rows and columns are those of the source, as far as they go."""
        lines = (self.rows, self.columns)
        return self.phase == (0, 0) and all((x == np.arange(len(x))).all() for x in lines)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Movement:
    """What a tensor is copied together from.

    Parameters
    ----------
    shapes : tuple of (N, C, H, W)
        Of the sources.
    shape : (N, C, H, W)
        Of the result.
    parts : tuple of Part
        A number of the result is in one of them at most, or it is the sum of its copies.
    step : (int, int)
        Rows and columns of the result from one of a part to its next.
    fill : int
        What stands where no part has a copy.
    total : int
        What the factors of a number's copies add up to: 1 where it is one copy.
    """

    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    step: tuple[int, int] = (1, 1)
    fill: int = 0
    total: int = 1

    @property
    def is_view(self) -> bool:
        """Whether the result is its source, perhaps under another shape."""
        if len(self.parts) != 1 or self.shapes != (self.shape,):
            return False
        (part,) = self.parts
        same = np.array_equal(part.channels, np.arange(self.shape[1])) and part.factor == 1
        return same and self.step == (1, 1) and part.keeps_pixels

    def move(self, sources: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the result of sources [N, C, H, W]."""
        result = np.full(self.shape, self.fill, sources[0].dtype)
        for part in self.parts:
            to, taken = zip(*(_pairs(x) for x in (part.channels, part.rows, part.columns)),
                            strict=True)  # fmt: skip
            y, x = (
                line * step + first
                for line, step, first in zip(to[1:], self.step, part.phase, strict=True)
            )
            source = sources[part.source].reshape(self.shapes[part.source])
            copied = source[:, taken[0][:, None, None], taken[1][:, None], taken[2]]
            place = np.s_[:, to[0][:, None, None], y[:, None], x]
            before = result[place] if self.total > 1 else 0
            result[place] = before + part.factor * copied
        return result


def _pairs(taken: Indices) -> tuple[Indices, Indices]:
    """Return the places that have a copy, and of what."""
    places = np.flatnonzero(taken >= 0)
    return places, taken[places]


def nchw(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape of another number of dimensions than four as one of four."""
    return shape if len(shape) == 4 else (shape[0], prod(shape[1:]), 1, 1)


def along_axes(
    shape: tuple[int, ...], taken: dict[int, Indices], *, fill: int = 0
) -> Movement | None:
    """Return the movement of one source that takes these places of some axes; None of the batch.

    Parameters
    ----------
    shape : (N, C, H, W) or (N, C)
        Of the source.
    taken : dict[int, int64[L]]
        Places by axis; -1 for a place that is filled.
    fill : int
    """
    full = nchw(shape)
    lines = [taken.get(axis, np.arange(n)) for axis, n in enumerate(full)]
    if not np.array_equal(lines[0], np.arange(full[0])) or not all(len(x) for x in lines):
        return None
    channels, rows, columns = (np.asarray(x, np.int64) for x in lines[1:])
    part = Part(source=0, channels=channels, rows=rows, columns=columns)
    return Movement(
        shapes=(full,), shape=(full[0], *(len(x) for x in lines[1:])), parts=(part,), fill=fill
    )


def joined(shapes: Sequence[tuple[int, ...]], axis: int = 1) -> Movement:
    """Return the movement that puts sources [N, C, H, W] side by side along an axis from 1 on."""
    whole = list(shapes[0])
    whole[axis] = sum(shape[axis] for shape in shapes)
    parts, first = [], 0
    for source, shape in enumerate(shapes):
        lines = [np.arange(n) for n in shape]
        lines[axis] = np.full(whole[axis], -1)
        lines[axis][first : first + shape[axis]] = np.arange(shape[axis])
        first += shape[axis]
        parts.append(Part(source=source, channels=lines[1], rows=lines[2], columns=lines[3]))
    return Movement(shapes=tuple(shapes), shape=tuple(whole), parts=tuple(parts))


def enlarged(shape: tuple[int, ...], factors: tuple[int, int]) -> Movement:
    """Return the movement that repeats each row and column of [N, C, H, W]."""
    n, channels, height, width = shape
    lines = np.arange(height), np.arange(width)
    parts = tuple(
        Part(source=0, channels=np.arange(channels), rows=lines[0], columns=lines[1], phase=phase)
        for phase in np.ndindex(*factors)
    )
    larger = (n, channels, height * factors[0], width * factors[1])
    return Movement(shapes=(shape,), shape=larger, parts=parts, step=factors)


def interpolated(shape: tuple[int, ...], line: Line) -> Movement:
    """Return the movement that interpolates [N, C, H, W] along one axis.

    Where the factors are the same for each f-th row or column, those are a part for each phase.
    """
    full, size, count = list(shape), shape[line.axis], len(line.low)
    full[line.axis] = count
    period, factor = _periodic(line, size)
    kept = [np.arange(n) for n in shape[1:]]
    parts = []
    for phase in range(period):
        own = np.s_[phase::period]
        for lines, factors in ((line.low, line.total - factor), (line.high, factor)):
            for weight in sorted({*factors[own].tolist()} - {0}):
                kept[line.axis - 1] = np.where(factors[own] == weight, lines[own], -1)
                at = (phase, 0) if line.axis == 2 else (0, phase)
                channels, rows, columns = kept
                parts.append(
                    Part(
                        source=0,
                        channels=channels,
                        rows=rows,
                        columns=columns,
                        phase=at,
                        factor=weight,
                    )
                )
    step = (period, 1) if line.axis == 2 else (1, period)
    return Movement(
        shapes=(shape,), shape=tuple(full), parts=tuple(parts), step=step, total=line.total
    )


def _periodic(line: Line, size: int) -> tuple[int, Indices]:
    """Return after how many rows or columns factors repeat, 1 if they do not, and the factors.

    A number that has one neighbour alone, as at an edge, may have the factors of any other.
    """
    count, factor, alone = len(line.low), line.factor.copy(), line.low == line.high
    period = count // size if count % size == 0 else 1
    for phase in range(period):
        own, free = factor[phase::period], alone[phase::period]
        known = {*own[~free].tolist()} or {0}
        if len(known) > 1:
            return 1, line.factor
        own[free] = known.pop()
    return period, factor


def of_places(places: Indices, shape: tuple[int, ...]) -> Movement | None:
    """Return the movement whose result holds these places of its source; None where it has none.

    Parameters
    ----------
    places : int64[C, H, W]
        Each the place of a number within one image of the source.
    shape : (N, C, H, W)
        Of the source.
    """
    channel, row, column = np.unravel_index(places, shape[1:])
    size = places.shape[1:]
    step = tuple(
        now // before if now % before == 0 else 1
        for now, before in zip(size, shape[2:], strict=True)
    )
    parts: list[Part] = []
    for phase in np.ndindex(*step):
        cut = np.s_[:, phase[0] :: step[0], phase[1] :: step[1]]
        c, y, x = channel[cut], row[cut], column[cut]
        if (c != c[:, :1, :1]).any() or (y != y[:, :, :1]).any() or (x != x[:, :1]).any():
            return None
        lines = np.concatenate([y[:, :, 0], x[:, 0]], axis=1)
        for line in np.unique(lines, axis=0):
            members = (lines == line).all(axis=1)
            channels = np.where(members, c[:, 0, 0], -1)
            rows, columns = line[: y.shape[1]], line[y.shape[1] :]
            parts.append(Part(source=0, channels=channels, rows=rows, columns=columns, phase=phase))
    result = (shape[0], *places.shape)
    return Movement(shapes=(shape,), shape=result, parts=tuple(parts), step=(step[0], step[1]))


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbours of a result whose copies lie a step apart in the source.

    Parameters
    ----------
    to, start, step, count : int
        The first one in the result, where it comes from, and how far the next ones come from.
    """

    to: int
    start: int
    step: int
    count: int


def runs(taken: Indices) -> Iterator[Run]:
    """Cut the places of a line into runs, leaving out those that are -1."""
    at = 0
    while at < len(taken):
        if taken[at] < 0:
            at += 1
            continue
        count, step = 1, 0
        if at + 1 < len(taken) and taken[at + 1] >= taken[at]:
            step = int(taken[at + 1] - taken[at])
            while at + count < len(taken) and taken[at + count] - taken[at + count - 1] == step:
                count += 1
        yield Run(at, int(taken[at]), step, count)
        at += count
