"""Lanes: how numbers of 4 or 8 bits lie in the bytes of an element.

Lane i of an element lies at bits ``bits * i`` to ``bits * i + bits - 1``, little endian, two's
complement: int8 takes a byte, of int4 the even lane takes the low half of a byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

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
    return low[::2] & np.uint8(15) | low[1::2] << np.uint8(4)


def unpack_lanes(data: NDArray[np.uint8], bits: int) -> NDArray[np.int8]:
    """Return the numbers that lie in `data`, int8[n] of 8 * bytes / `bits` lanes."""
    data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    if bits == 8:
        return data.view(np.int8)
    return wrap_lanes(np.stack([data & 15, data >> 4], axis=-1).reshape(-1), bits)
