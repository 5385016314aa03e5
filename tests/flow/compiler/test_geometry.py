"""Ranges, windows with zeros around them, nests: by hand, and against every element."""

from __future__ import annotations

from itertools import product

import pytest

from flow.compiler.geometry import (
    MANY_VECTORS,
    Dim,
    Range,
    Window,
    nest,
    nest_uops,
    span,
    split,
    view,
    window,
)
from vta_config.errors import CapacityError


def test_split() -> None:
    assert split(7, 3) == [(0, 3), (3, 3), (6, 1)]
    assert split(6, 3) == [(0, 3), (3, 3)]
    assert split(2, 5) == [(0, 2)] and split(0, 5) == []


@pytest.mark.parametrize(
    ("out", "stride", "padding", "extent", "size", "expected"),
    [
        ((0, 8), 1, 1, 10, 8, Window(0, 8, 1, 1)),  # 3x3, padded by 1
        ((0, 4), 1, 1, 6, 8, Window(0, 5, 1, 0)),
        ((4, 4), 1, 1, 6, 8, Window(3, 5, 0, 1)),
        ((1, 2), 2, 3, 9, 16, Window(0, 8, 1, 0)),  # 7x7, stride 2: rows -1 to 7
        ((2, 1), 1, 0, 1, 8, Window(2, 1, 0, 0)),
    ],
)
def test_windows(
    out: tuple[int, int],
    stride: int,
    padding: int,
    extent: int,
    size: int,
    expected: Window,
) -> None:
    found = window(
        Range(*out), stride=stride, padding=padding, extent=extent, size=size, where="conv1"
    )
    assert found == expected and found.extent == extent


def test_more_zeros_than_a_load_can_make() -> None:
    def padded(padding: int) -> Window:
        return window(Range(0, 1), stride=1, padding=padding, extent=17, size=4, where="conv1")

    assert padded(13) == Window(0, 4, 13, 0)
    sentence = r"conv1: must need at most 15 zeros at an edge, got 16; leave it on the host"
    with pytest.raises(CapacityError, match=sentence):
        padded(16)


def test_a_window_of_zeros_alone() -> None:
    with pytest.raises(CapacityError, match="must need at most 15 zeros at an edge, got 5"):
        window(Range(0, 1), stride=1, padding=5, extent=2, size=4, where="conv1")


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
