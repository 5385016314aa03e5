"""Lanes against plain integers: lane i at bits `bits * i` of the element, two's complement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vta_config.errors import CapacityError
from vta_config.lanes import (
    join_bit_planes,
    join_planes,
    pack_lanes,
    plane_range,
    planes_of,
    split_planes,
    unpack_lanes,
    wrap_lanes,
)

NUMBERS = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=33)


@pytest.mark.parametrize("bits", [4, 8])
@given(values=NUMBERS)
def test_bits_lie_where_they_should(bits: int, values: list[int]) -> None:
    values = values[: len(values) // 2 * 2]
    whole = sum((v & (1 << bits) - 1) << bits * i for i, v in enumerate(values))
    packed = pack_lanes(np.array(values, np.int32), bits)
    assert packed.tobytes() == whole.to_bytes(len(values) * bits // 8, "little")
    low = [(v + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1) for v in values]
    assert unpack_lanes(packed, bits).tolist() == low
    assert wrap_lanes(np.array(values, np.int32), bits).tolist() == low


def test_every_byte_has_two_lanes() -> None:
    every = np.arange(256, dtype=np.uint8)
    lanes = unpack_lanes(every, 4)
    assert lanes[:4].tolist() == [0, 0, 1, 0] and lanes[-2:].tolist() == [-1, -1]
    assert (lanes.min(), lanes.max()) == (-8, 7)
    np.testing.assert_array_equal(pack_lanes(lanes, 4), every)


def test_ranges_of_planes() -> None:
    assert [plane_range(p, 4) for p in (1, 2, 3)] == [(-8, 7), (-136, 119), (-2184, 1911)]
    assert plane_range(1, 8) == (-128, 127)
    assert [planes_of(-119, 119, 4), planes_of(-128, 127, 4), planes_of(-7, 7, 4)] == [2, 3, 1]
    assert [planes_of(-128, 127, 8), planes_of(0, 128, 8)] == [1, 2]


@pytest.mark.parametrize("planes", [1, 2, 3])
def test_digits_join_to_what_was_split(planes: int) -> None:
    low, high = plane_range(planes, 4)
    values = np.arange(low, high + 1)
    digits = split_planes(values, planes, 4, "x")
    assert digits.shape == (planes, values.size) and digits.dtype == np.int8
    assert digits.min() == -8 and digits.max() == 7
    np.testing.assert_array_equal(join_planes(digits, 4), values)
    for value in (low - 1, high + 1):
        sentence = rf"^x: must be in \[{low}, {high}\] to take {planes} x 4 bits, got {value}; clip"
        with pytest.raises(CapacityError, match=sentence):
            split_planes(np.array([0, value]), planes, 4, "x")


def test_digits_are_what_the_machine_stores() -> None:
    """STORE leaves the low 4 bits of x; of (x + 8) >> 4 it leaves the next digit."""
    x = np.arange(-136, 120)
    digits = split_planes(x, 2, 4, "x")
    np.testing.assert_array_equal(digits[0], wrap_lanes(x, 4))
    np.testing.assert_array_equal(digits[1], (x + 8) >> 4)


@pytest.mark.parametrize("bits", [4, 8])
def test_planes_of_plain_bits(bits: int) -> None:
    values = np.array([0, 1, -1, 127, -128, 1 << 30, -(1 << 31), 0x12345678], np.int32)
    lanes = np.stack([wrap_lanes(values >> bits * p, bits) for p in range(32 // bits)])
    np.testing.assert_array_equal(join_bit_planes(lanes, bits), values)
