"""Lanes against plain integers: lane i at bits `bits * i` of the element, two's complement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vta_config.lanes import pack_lanes, unpack_lanes, wrap_lanes

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
