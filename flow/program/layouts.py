"""Layouts: how NCHW and OIHW lie as NCHWnc and OIHWoi, and how constants become digits.

``n`` rows and ``c`` lanes are the innermost dimensions: one element of the inp, acc or out memory
is [batch, block], one element of the wgt memory [block_out, block_in]. Lanes and rows that the
tensor does not fill are zero. `pack_activation` and the like arrange numbers, a byte each;
`inp_bytes` and `wgt_bytes` make of them what lies in DRAM, where a lane may have 4 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, lcm
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from vta_config.errors import CapacityError
from vta_config.hardware import PAGE_BYTES
from vta_config.lanes import join_bit_planes, pack_lanes, split_planes
from vta_config.portable import constant_reach, constant_units

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vta_config.hardware import VTAConfig


def blocks(extent: int, block: int) -> int:
    """Return how many blocks cover `extent`: ⌈extent / block⌉."""
    return -(-extent // block)


def _pad_to(x: NDArray[np.int8], axis: int, multiple: int) -> NDArray[np.int8]:
    missing = -x.shape[axis] % multiple
    if not missing:
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, missing)
    return np.pad(x, widths)


def pack_activation(x: NDArray[np.int8], config: VTAConfig) -> NDArray[np.int8]:
    """Pack int8[N, C, H, W] as int8[⌈N/batch⌉, ⌈C/block⌉, H, W, batch, block]."""
    x = _pad_to(_pad_to(x, 0, config.batch), 1, config.block)
    n, c, h, w = x.shape
    split = x.reshape(n // config.batch, config.batch, c // config.block, config.block, h, w)
    return np.ascontiguousarray(split.transpose(0, 2, 4, 5, 1, 3))


def unpack_activation(
    packed: NDArray[np.int8], shape: tuple[int, ...], config: VTAConfig
) -> NDArray[np.int8]:
    """Undo `pack_activation`; `shape` is [N, C, H, W] of the result."""
    n, c, h, w = shape
    packed = packed.reshape(
        blocks(n, config.batch), blocks(c, config.block), h, w, config.batch, config.block
    )
    full = packed.transpose(0, 4, 1, 5, 2, 3).reshape(packed.shape[0] * config.batch, -1, h, w)
    return np.ascontiguousarray(full[:n, :c])


def inp_bytes(numbers: NDArray[np.int8], config: VTAConfig, where: str) -> NDArray[np.uint8]:
    """Return numbers, arranged as inp elements, as they lie in DRAM: uint8[bytes].

    Raises
    ------
    CapacityError
        When one does not fit a lane of inp.
    """
    return _lane_bytes(numbers, config.inp_bits, where)


def wgt_bytes(numbers: NDArray[np.int8], config: VTAConfig, where: str) -> NDArray[np.uint8]:
    """Return numbers, arranged as wgt elements, as they lie in DRAM: uint8[bytes].

    Raises
    ------
    CapacityError
        When one does not fit a lane of wgt.
    """
    return _lane_bytes(numbers, config.wgt_bits, where)


def _lane_bytes(numbers: NDArray[np.int8], bits: int, where: str) -> NDArray[np.uint8]:
    if bits < 8:
        (numbers,) = split_planes(numbers, 1, bits, where)
    return pack_lanes(numbers, bits)


def join_byte_planes(planes: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Join uint8[4, ...], plane p holding bits 8p..8p+7, to int32[...]."""
    return join_bit_planes(planes.view(np.int8), 8)


def pack_weight(weight: NDArray[np.int8], config: VTAConfig) -> NDArray[np.int8]:
    """Pack int8[O, I, kh, kw] as int8[⌈O/block⌉, ⌈I/block⌉, kh, kw, block_out, block_in]."""
    w = _pad_to(_pad_to(weight, 0, config.block), 1, config.block)
    o, i, kh, kw = w.shape
    split = w.reshape(o // config.block, config.block, i // config.block, config.block, kh, kw)
    return np.ascontiguousarray(split.transpose(0, 2, 4, 5, 1, 3))


def pack_diagonals(weight: NDArray[np.int8], config: VTAConfig) -> NDArray[np.int8]:
    """Pack int8[C, 1, kh, kw], a kernel a channel, as diagonal blocks.

    Returns
    -------
    int8[⌈C/block⌉, 1, kh, kw, block_out, block_in]
    """
    taps = _pad_to(weight, 0, config.block).reshape(-1, 1, config.block, *weight.shape[2:])
    lanes = np.moveaxis(taps, 2, -1)[..., np.newaxis]
    return np.ascontiguousarray(lanes * np.eye(config.block, dtype=np.int8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundles:
    """The groups of a convolution that fill whole blocks of channels, together: *bundles*.

    16 groups of 4 input and 8 output channels are bundles of 4 groups, each of which reads one
    block of 16 channels and makes two. Where no such number of groups is less than all, there is
    one bundle. The last one may have fewer groups.

    Parameters
    ----------
    groups, each : int
        Groups, and groups a bundle.
    ic, oc : int
        Blocks of input and of output channels of a bundle.
    all_ic, all_oc : int
        Blocks of all input and output channels.
    """

    groups: int
    each: int
    ic: int
    oc: int
    all_ic: int
    all_oc: int

    @classmethod
    def of(cls, in_channels: int, out_channels: int, groups: int, block: int) -> Bundles:
        """Return the smallest bundles of a convolution of so many channels."""
        reads, makes = in_channels // groups, out_channels // groups
        each = min(groups, lcm(block // gcd(block, reads), block // gcd(block, makes)))
        return cls(
            groups=groups,
            each=each,
            ic=blocks(each * reads, block),
            oc=blocks(each * makes, block),
            all_ic=blocks(in_channels, block),
            all_oc=blocks(out_channels, block),
        )

    def inputs_of(self, oc: int) -> tuple[int, int]:
        """Return the first block of input channels that a block of output channels reads, count."""
        first = oc // self.oc * self.ic
        return first, min(self.ic, self.all_ic - first)

    def outputs(self, most: int) -> list[tuple[int, int]]:
        """Cut the blocks of output channels into (first, count), at most `most`, within bundles."""
        result = []
        for start in range(0, self.all_oc, self.oc):
            end = min(start + self.oc, self.all_oc)
            result += [(at, min(most, end - at)) for at in range(start, end, most)]
        return result


def pack_groups(weight: NDArray[np.int8], bundles: Bundles, config: VTAConfig) -> NDArray[np.int8]:
    """Pack int8[O, I / groups, kh, kw], a grouped convolution's kernel, as blocks with zeros.

    Returns
    -------
    int8[⌈O/block⌉, bundles.ic, kh, kw, block_out, block_in]
        Of each block of output channels, the blocks of input channels that its bundle reads.
    """
    outputs, each = weight.shape[:2]
    span = bundles.ic * config.block
    wide = np.zeros((outputs, span, *weight.shape[2:]), np.int8)
    per_group = outputs // bundles.groups
    for group in range(bundles.groups):
        rows = slice(group * per_group, (group + 1) * per_group)
        first = group % bundles.each * each
        wide[rows, first : first + each] = weight[rows]
    return pack_weight(wide, config)


def constant_vector(config: VTAConfig) -> NDArray[np.int8]:
    """Return the inp element of bias steps, int8[batch, block].

    Every lane is the largest that there is, 127 or 7, but for the last ones: 1, or 15 and 1.
    """
    row = np.full(config.block, config.inp_max, np.int8)
    units = constant_units(config.inp_max, config.wgt_max)
    row[-len(units) :] = units
    return np.tile(row, (config.batch, 1))


def constant_digits(values: NDArray[np.int64], config: VTAConfig, where: str) -> NDArray[np.int8]:
    """Write each lane's constant as digits for GEMM steps on `constant_vector`.

    value = 127·Σ_{l < block−1} d_l + d_{block−1} with −127 ≤ d ≤ 127, so one step reaches
    ±(127²·(block − 1) + 127); as many steps are used as the largest constant needs. On machines of
    narrow operands `inp_max` and `wgt_max` take the place of 127, and there may be two units.
    docs/compiler.md says why the GEMM adds them.

    Parameters
    ----------
    values : int64[⌈C/block⌉·block]
        The constants (bias + rounding), zero in unused lanes.

    Returns
    -------
    int8[⌈C/block⌉, steps, block_out, block_in]

    Raises
    ------
    CapacityError
        When a constant does not fit an int32 accumulator.
    """
    check_constants(values, where)
    largest, most = config.inp_max, config.wgt_max
    units = constant_units(largest, most)
    lanes, reach = config.block - len(units), constant_reach(config.block, largest, most)
    steps = max(1, -(-int(np.abs(values).max(initial=0)) // reach))
    digits = np.zeros((steps, values.size, config.block), np.int64)
    rest = values.astype(np.int64).copy()
    for step in range(steps):
        part = np.clip(rest, -reach, reach)
        rest -= part
        # part = 127·high + low, |low| ≤ 63 (127 at the reach's end); high is then spread over the
        # lanes, low over the units.
        high = _nearest(part, largest, most * lanes)
        low = part - largest * high
        for lane in range(lanes):
            digit = np.clip(high, -most, most)
            digits[step, :, lane] = digit
            high = high - digit
        for lane, unit in enumerate(units, start=lanes):
            digit = _nearest(low, unit, most)
            digits[step, :, lane] = digit
            low = low - unit * digit
        assert not low.any()
    assert not rest.any() and np.abs(digits).max(initial=0) <= most
    per_block = digits.reshape(steps, -1, config.block, config.block).transpose(1, 0, 2, 3)
    return np.ascontiguousarray(per_block.astype(np.int8))


def check_constants(values: NDArray[np.int64], where: str) -> None:
    """Check that constants fit an int32 accumulator.

    Raises
    ------
    CapacityError
        When one does not.
    """
    if np.abs(values).max(initial=0) >= 1 << 31:
        raise CapacityError(
            f"{where}.bias",
            "must fit an int32 accumulator",
            got=int(np.abs(values).max()),
            hint="choose a larger weight or input scale",
        )


def _nearest(values: NDArray[np.int64], unit: int, most: int) -> NDArray[np.int64]:
    """Return how often `unit` goes into each value, to nearest, at most ±`most`."""
    times = np.minimum((np.abs(values) + unit // 2) // unit, most)
    return np.asarray(np.sign(values) * times, np.int64)


def diagonal_weight(multiplier: int, config: VTAConfig) -> NDArray[np.int8]:
    """Return the wgt element that adds `multiplier` · inp: int8[block_out, block_in].

    It must fit a lane of wgt.
    """
    return (np.eye(config.block) * multiplier).astype(np.int8)


class Border(NamedTuple):
    """Rows and columns around each block of channels of a tensor in DRAM, all of one number."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0
    value: int = 0

    @property
    def empty(self) -> bool:
        """Whether there are none."""
        return not any(self[:4])

    def joined(self, other: Border) -> Border:
        """Return the border that holds both, of the same number."""
        top, left, bottom, right = (max(a, b) for a, b in zip(self[:4], other[:4], strict=True))
        return Border(top, left, bottom, right, self.value)

    def around(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return NCHW of a tensor of `shape` with its border."""
        n, c, h, w = shape
        return (n, c, self.top + h + self.bottom, self.left + w + self.right)


#: None.
NO_BORDER: Final = Border()


@dataclass(frozen=True, slots=True, kw_only=True)
class DramTensor:
    """An activation in DRAM, NCHWnc.

    Parameters
    ----------
    name : str
    shape : tuple[int, int, int, int]
        NCHW as it lies in DRAM (an input in its form), without its border.
    address : int
        Bytes from the arena's start.
    planes : int
        Lanes that a number takes, as `PortTensor`.
    plane_bytes : int
        Bytes of one plane.
    border : Border
        What lies around it.
    """

    name: str
    shape: tuple[int, ...]
    address: int
    planes: int
    plane_bytes: int
    border: Border = NO_BORDER


class Fill(NamedTuple):
    """Bytes of the arena that all are `byte` before a program first runs."""

    address: int
    size_bytes: int
    byte: int


def plane_bytes(shape: tuple[int, ...], config: VTAConfig) -> int:
    """Return the bytes of one plane of [N, C, H, W] packed as NCHWnc, a lane of inp a number."""
    n, c, h, w = shape
    return blocks(n, config.batch) * blocks(c, config.block) * h * w * config.inp_elem_bytes


def alignment_bytes(config: VTAConfig) -> int:
    """Return what addresses are multiples of: whole elements of every memory, whole beats."""
    return max(config.wgt_elem_bytes, config.acc_elem_bytes, config.inp_elem_bytes, 128)


def arena_alignment_bytes(config: VTAConfig) -> int:
    """Return what the arena's own address must be a multiple of."""
    return max(PAGE_BYTES, alignment_bytes(config))
