"""Slots of a scratchpad: which chunk lies where, and when it may be loaded."""

from __future__ import annotations

import pytest

from flow.compiler.buffers import SlotBuffer, SlotPool


def test_the_least_recently_used_slot_is_refilled() -> None:
    buffer = SlotBuffer(30)
    buffer.begin_layer(chunk=SlotPool(10, 3))
    assert [buffer.place(key, job).base for job, key in enumerate("abc", 1)] == [0, 10, 20]
    assert buffer.place("a", 4) == (0, False, False)  # used again
    assert buffer.place("d", 5) == (10, True, False)  # in place of b
    assert buffer.place("b", 6) == (20, True, False)


def test_pools_take_their_slots_in_order() -> None:
    """Of 100 elements, two of 30 leave two of 20, of which one more would not fit."""
    buffer = SlotBuffer(100)
    buffer.begin_layer(chunk=SlotPool(30), residual=SlotPool(20, 5))
    assert [buffer.place(i, i).base for i in (1, 2)] == [0, 30]
    assert [buffer.place(i, i, "residual").base for i in (3, 4)] == [60, 80]
    assert buffer.place(5, 5, "residual").base == 60


def test_whether_each_pool_finds_a_slot() -> None:
    buffer = SlotBuffer(10)
    assert buffer.fits(residual=SlotPool(2), chunk=SlotPool(6, 4))
    assert not buffer.fits(residual=SlotPool(2), chunk=SlotPool(7, 4))


def test_a_chunk_that_does_not_fit_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="tiling chose a chunk that does not fit"):
        SlotBuffer(10).begin_layer(chunk=SlotPool(11))
    buffer = SlotBuffer(10)
    buffer.begin_layer(chunk=SlotPool(10))
    buffer.place("a", 1)
    with pytest.raises(AssertionError, match="more chunks at once than there are slots"):
        buffer.place("b", 1)


def test_slots_keep_what_they_hold_and_spare_what_is_in_use() -> None:
    buffer = SlotBuffer(100)
    buffer.begin_layer(chunk=SlotPool(50))
    assert buffer.place("a", 1) == (0, True, False)
    assert buffer.place("b", 2) == (50, True, False)
    assert buffer.place("a", 3) == (0, False, False)
    assert buffer.place("c", 4) == (50, True, False)
    assert buffer.place("d", 4) == (0, True, True), "the job before still uses the other slot"
    buffer.begin_layer(residual=SlotPool(10), chunk=SlotPool(60))
    assert buffer.place("e", 5).late, "the last layer's job may still use the only slot"
    assert not buffer.place("f", 9, "residual").late


def test_a_new_layer_starts_where_the_last_one_is_done() -> None:
    buffer = SlotBuffer(100)
    buffer.begin_layer(chunk=SlotPool(20))
    first = [buffer.place(job, job).base for job in (1, 2)]
    buffer.begin_layer(chunk=SlotPool(30))
    second = [buffer.place(job, job).base for job in (3, 4)]
    assert max(first) + 20 <= min(second) and not buffer.place("x", 5).late


def test_slots_go_around_the_buffer() -> None:
    """What four layers load lies apart; the fifth one takes the place of the first."""
    buffer = SlotBuffer(100, around=True)
    bases = []
    for job, elems in enumerate((30, 30, 20, 20, 30), 1):
        buffer.begin_layer(chunk=SlotPool(elems, 1))
        bases.append(buffer.place(job, job).base)
    assert bases == [0, 30, 60, 80, 0]
