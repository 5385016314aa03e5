"""Ranges, windows, taps inside, nests: by hand, and against every element."""

from __future__ import annotations

from itertools import product

import pytest

from flow.compiler.geometry import (
    MANY_VECTORS,
    Axis,
    Dim,
    Range,
    TapRun,
    nest,
    nest_uops,
    span,
    split,
    tap_nests,
    view,
)


def test_split() -> None:
    assert split(7, 3) == [(0, 3), (3, 3), (6, 1)]
    assert split(6, 3) == [(0, 3), (3, 3)]
    assert split(2, 5) == [(0, 2)] and split(0, 5) == []


def axis(out: tuple[int, int], *, stride: int = 1, padding: int, kernel: int, size: int) -> Axis:
    return Axis(Range(*out), stride, -padding, kernel, 1, size)


@pytest.mark.parametrize(
    ("of", "window", "runs"),
    [
        (  # 3 x 3, padded by 1: the first row lacks tap 0, the last one tap 2
            axis((0, 8), padding=1, kernel=3, size=8),
            (0, 8),
            [((0, 1), (1, 7)), ((1, 1), (0, 8)), ((2, 1), (0, 7))],
        ),
        (
            axis((0, 4), padding=1, kernel=3, size=8),
            (0, 5),
            [((0, 1), (1, 3)), ((1, 2), (0, 4))],
        ),
        (axis((2, 4), padding=1, kernel=3, size=8), (1, 6), [((0, 3), (2, 4))]),
        (  # 7 x 7, stride 2: row 1 reads rows -1 to 5
            axis((1, 2), stride=2, padding=3, kernel=7, size=16),
            (0, 8),
            [((0, 1), (2, 1)), ((1, 6), (1, 2))],
        ),
        (  # a picture smaller than its padding
            axis((0, 5), padding=3, kernel=3, size=1),
            (0, 1),
            [((0, 1), (3, 1)), ((1, 1), (2, 1)), ((2, 1), (1, 1))],
        ),
        (axis((0, 2), padding=5, kernel=2, size=4), (0, 0), []),
    ],
)
def test_taps_that_lie_inside(
    of: Axis, window: tuple[int, int], runs: list[tuple[tuple[int, int], tuple[int, int]]]
) -> None:
    assert of.window == window or of.window.count == window[1] == 0
    assert of.runs() == [TapRun(Range(*taps), Range(*out)) for taps, out in runs]


def test_taps_of_some_outputs() -> None:
    of = axis((0, 8), padding=1, kernel=3, size=8)
    assert of.runs(Range(0, 1)) == [((1, 2), (0, 1))]
    assert of.runs(Range(3, 2)) == [((0, 3), (3, 2))]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("out", [((0, 5), (0, 4)), ((2, 2), (1, 3))])
def test_nests_of_taps_reach_every_pixel_inside_once(
    stride: int, out: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    """A picture of 6 x 5 with values of its own, in a window that lies from element 100 on."""
    sizes, kernel, padding = (6, 5), (3, 2), (2, 1)
    y, x = (
        Axis(Range(*o), stride, -p, k, 1, size)
        for o, p, k, size in zip(out, padding, kernel, sizes, strict=True)
    )
    got = []
    for dims, start in tap_nests((y, x), (), (50, 100, 7), pitch=9, weights=(2, 1)):
        got += elements(list(dims), start)
    expected = []
    for oy, ox, ky, kx in product(
        range(y.out.count), range(x.out.count), range(kernel[0]), range(kernel[1])
    ):
        row = (y.out.start + oy) * stride - padding[0] + ky
        column = (x.out.start + ox) * stride - padding[1] + kx
        if 0 <= row < sizes[0] and 0 <= column < sizes[1]:
            at = (row - y.window.start) * x.window.count + column - x.window.start
            expected.append((50 + oy * 9 + ox, 100 + at, 7 + ky * 2 + kx))
    assert sorted(got) == sorted(expected)


@pytest.mark.parametrize("offset", range(-3, 4))
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_views_hold_the_outputs_whose_input_is_inside(offset: int, stride: int) -> None:
    size = 7
    found = view(Range(1, 5), offset=offset, stride=stride, size=size)
    inside = [o for o in range(1, 6) if 0 <= o * stride + offset < size]
    assert list(range(found.start, found.start + found.count)) == inside


def elements(dims: list[Dim], start: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Return what a nest touches, (dst, src, wgt) by (dst, src, wgt), in no order."""
    return sorted(
        (
            start[0] + sum(i * d.dst for i, d in zip(index, dims, strict=True)),
            start[1] + sum(i * d.src for i, d in zip(index, dims, strict=True)),
            start[2] + sum(i * d.wgt for i, d in zip(index, dims, strict=True)),
        )
        for index in product(*(range(d.count) for d in dims))
    )


#: Rows, columns, blocks of channels, kernel rows: long pictures and small ones.
LARGE = [Dim(4, 4, 10), Dim(4, 1, 2), Dim(2, 16, 0, 9), Dim(3, 0, 10, 3)]
SMALL = [Dim(1, 0, 0), Dim(2, 1, 2), Dim(5, 2, 0, 9), Dim(3, 0, 10, 3)]


@pytest.mark.parametrize("dims", [LARGE, SMALL, LARGE[:2], LARGE[:1], []])
def test_loops_and_micro_ops_touch_what_the_nest_does(dims: list[Dim]) -> None:
    start = (7, 5, 3)
    (outer, inner), uops = nest(dims, start)
    assert len(uops) == nest_uops([d.count for d in dims])
    touched = sorted(
        (d + i * outer.dst + j * inner.dst, s + i * outer.src + j * inner.src,
         w + i * outer.wgt + j * inner.wgt)
        for i in range(outer.count) for j in range(inner.count) for d, s, w in uops
    )  # fmt: skip
    assert touched == elements(dims, start)
    for operand in range(3):
        places = [t[operand] for t in touched]
        assert span(dims, operand) == max(places) - min(places) + 1


def test_which_loops_are_the_hardwares() -> None:
    assert 4 * 4 == MANY_VECTORS
    assert nest(LARGE, (0, 0, 0))[0] == (LARGE[0], LARGE[1])  # rows and columns
    assert nest_uops([4, 4, 2, 3]) == 6
    assert nest(SMALL, (0, 0, 0))[0] == (SMALL[2], SMALL[3])  # the longest
    assert nest_uops([1, 2, 5, 3]) == 2
    assert nest(LARGE[:1], (1, 2, 3)) == ((Dim(1, 0, 0), LARGE[0]), ((1, 2, 3),))
