"""Lanes: how numbers of 4 or 8 bits lie in the bytes of an element.

Lane i of an element lies at bits ``bits * i`` to ``bits * i + bits - 1``, little endian, two's
complement: int8 takes a byte, of int4 the even lane takes the low half of a byte.

Numbers that are wider than a lane are sums of planes, v = Σ d_p · 2^(bits·p), low first. Each digit
d_p is a lane, so it has a sign: of 4 bits v = d_0 + 16·d_1, both in [-8, 7]. An int32 that STORE
writes lane by lane, shifted right in between, lies in planes of plain bits instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vta_config.errors import CapacityError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def wrap_lanes(values: NDArray[Any], bits: int) -> NDArray[np.int8]:
    """Return the low `bits` bits of each number, with their sign: int8 of the shape of `values`."""
    low = np.asarray(values).astype(np.int8)  # numpy casts modulo 2^8
    return low if bits == 8 else ((low & 15) ^ 8) - np.int8(8)


def pack_lanes(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Return the low `bits` bits of each number as bytes.

    Parameters
    ----------
    values : int[n] of any shape
        In the order of the lanes; an even number of them where two share a byte.
    bits : int
        4 or 8.

    Returns
    -------
    uint8[n * bits / 8]
    """
    low = np.ascontiguousarray(values).reshape(-1).astype(np.uint8)
    if bits == 8:
        return low
    packed: NDArray[np.uint8] = low[::2] & np.uint8(15) | low[1::2] << np.uint8(4)
    return packed


def unpack_lanes(data: NDArray[np.uint8], bits: int) -> NDArray[np.int8]:
    """Return the numbers that lie in `data`, int8[n] of 8 * bytes / `bits` lanes."""
    data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    if bits == 8:
        return data.view(np.int8)
    return wrap_lanes(np.stack([data & 15, data >> 4], axis=-1).reshape(-1), bits)


# ---- numbers wider than a lane ------------------------------------------------------------------
def plane_range(planes: int, bits: int) -> tuple[int, int]:
    """Return the least and the largest number that `planes` signed digits of `bits` bits hold.

    Of 4 bits: [-8, 7], [-136, 119], [-2184, 1911].
    """
    ones = ((1 << bits * planes) - 1) // ((1 << bits) - 1)
    return -(1 << bits - 1) * ones, ((1 << bits - 1) - 1) * ones


def planes_of(low: int, high: int, bits: int) -> int:
    """Return how many planes numbers in [`low`, `high`] take, at least one."""
    planes = 1
    while not (plane_range(planes, bits)[0] <= low and high <= plane_range(planes, bits)[1]):
        planes += 1
    return planes


def split_planes(values: NDArray[Any], planes: int, bits: int, where: str) -> NDArray[np.int8]:
    """Write integers as signed digits, low first: v = Σ digit[p] · 2^(bits·p).

    Parameters
    ----------
    values : int[...]
    planes, bits : int
    where : str
        What they are, for the sentence.

    Returns
    -------
    int8[planes, ...]

    Raises
    ------
    CapacityError
        When a number needs more digits.
    """
    rest = np.asarray(values).astype(np.int64)
    low, high = plane_range(planes, bits)
    if rest.size and not (low <= rest.min() and rest.max() <= high):
        raise CapacityError(
            where,
            f"must be in [{low}, {high}] to take {planes} x {bits} bits",
            got=int(rest.min() if rest.min() < low else rest.max()),
            hint="clip the numbers, or give them more planes",
        )
    digits = np.empty((planes, *rest.shape), np.int8)
    for plane in range(planes):
        digits[plane] = wrap_lanes(rest, bits)
        rest = (rest - digits[plane]) >> bits
    return digits


def join_planes(digits: NDArray[np.int8], bits: int) -> NDArray[np.int64]:
    """Return what signed digits stand for: int64[...] of int8[planes, ...], low first."""
    total = np.zeros(digits.shape[1:], np.int64)
    for plane, digit in enumerate(digits):
        total += digit.astype(np.int64) << bits * plane
    return total


def join_bit_planes(lanes: NDArray[np.int8], bits: int) -> NDArray[np.int32]:
    """Join planes of plain bits, plane p holding bits `bits * p` and up, to int32[...]."""
    total = np.zeros(lanes.shape[1:], np.uint32)
    for plane, lane in enumerate(lanes):
        total |= (lane.astype(np.uint32) & ((1 << bits) - 1)) << np.uint32(bits * plane)
    return total.astype(np.int32)
