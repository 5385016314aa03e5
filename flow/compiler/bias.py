"""Constants a channel: digits that GEMM steps add, or a vector in acc that the ALU adds.

A step on the constant vector adds up to `constant_reach`, times the power of two that the
accumulator stands for. A layer takes as many steps as the largest constant needs, as long as they
are no slower than one addition of a register. With weights of 4 bits a step reaches less far; there
steps are taken at any exponent that the layer goes through anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from flow.compiler.multiply import COPY_SHARE
from flow.program.layouts import check_constants, constant_digits
from vta_config.portable import constant_reach

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from flow.compiler.geometry import Range
    from vta_config.hardware import VTAConfig
    from vta_config.timing import TimingProfile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LateConstants:
    """Constants, one a channel, added after the sums: GEMM steps on the constant vector.

    Parameters
    ----------
    digits : int8[oc, steps, block_out, block_in]
        Wgt elements as they lie in DRAM.
    """

    digits: NDArray[np.int8]

    @property
    def passes(self) -> int:
        """GEMM steps a vector."""
        return int(self.digits.shape[1])

    def cycles(self, timing: TimingProfile) -> int:
        """Return cycles a vector."""
        return self.passes * timing.gemm_step


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegisterOp:
    """A right shift by, or an addition of, a number a channel, which acc holds.

    Parameters
    ----------
    op : {"shr", "add"}
    values : int32[oc · places, batch, block]
        Acc elements as they lie in DRAM, those of a block of channels together.
    places : tuple[tuple[Range, Range], ...]
        Rows and columns of the outputs that each number of a block is for; none where there is one
        for all.
    """

    passes: ClassVar[int] = 2
    op: Literal["shr", "add"]
    values: NDArray[np.int32]
    places: tuple[tuple[Range, Range], ...] = ()

    @property
    def each(self) -> int:
        """Acc elements of a block of channels."""
        return max(1, len(self.places))

    def cycles(self, timing: TimingProfile) -> int:
        """Return cycles a vector."""
        return timing.alu_reg_step

    @classmethod
    def of(
        cls, op: Literal["shr", "add"], lanes: NDArray[np.int64], config: VTAConfig
    ) -> RegisterOp:
        """Repeat int64[oc, block] for each row of the batch."""
        rows = np.repeat(lanes.astype(np.int32)[:, np.newaxis], config.batch, axis=1)
        return cls(op=op, values=rows)

    @classmethod
    def of_parts(
        cls,
        values: Sequence[NDArray[np.int64]],
        places: Sequence[tuple[Range, Range]],
        config: VTAConfig,
    ) -> RegisterOp:
        """Add int64[oc · block] to the outputs of each place, rows and columns."""
        lanes = np.stack([value.reshape(-1, config.block) for value in values], 1)
        whole = cls.of("add", lanes.reshape(-1, config.block), config)
        return replace(whole, places=tuple(places))


def register_room(config: VTAConfig) -> int:
    """Return the acc elements that a layer's numbers may take."""
    return max(1, config.acc_depth // COPY_SHARE)


def bias_digits(
    values: NDArray[np.int64], exponents: tuple[int, ...], config: VTAConfig, where: str
) -> Mapping[int, NDArray[np.int8]] | None:
    """Return digits of a constant a channel by exponent; None where a register adds it faster.

    Parameters
    ----------
    values : int64[⌈C/block⌉·block]
    exponents : tuple[int, ...]
        Falling, at which the accumulator can be added to.
    config : VTAConfig
    where : str
        The layer, for errors.

    Returns
    -------
    int8[oc, steps, block_out, block_in] by exponent

    Raises
    ------
    CapacityError
        When a constant does not fit an int32 accumulator.
    """
    if not values.any():
        return {}
    check_constants(values, where)
    counts = _fewest(values, exponents if config.narrow else (0,), config)
    if counts is None:
        return None
    reach, rest, digits = _reach(config), values, {}
    for exponent in sorted(counts, reverse=True):
        most = counts[exponent] * reach
        part = np.clip(rest + (1 << exponent >> 1) >> exponent, -most, most)
        rest = rest - (part << exponent)
        digits[exponent] = constant_digits(part, config, where)
    assert not rest.any()
    return digits


def late_constants(
    values: NDArray[np.int64], config: VTAConfig, where: str
) -> LateConstants | RegisterOp:
    """Return what adds a constant a channel after the sums, where there is no exponent but 0."""
    digits = bias_digits(values, (0,), config, where)
    if digits is None:
        return RegisterOp.of("add", values.reshape(-1, config.block), config)
    return LateConstants(digits=digits[0] if digits else constant_digits(values, config, where))


def _reach(config: VTAConfig) -> int:
    return constant_reach(config.block, config.inp_max, config.wgt_max)


def _fewest(
    values: NDArray[np.int64], exponents: Sequence[int], config: VTAConfig
) -> dict[int, int] | None:
    """Return the fewest steps by exponent that add all values, if no slower than a register."""
    timing = config.profile
    for count in range(1, timing.alu_reg_step // timing.gemm_step + 1):
        for chosen in combinations_with_replacement(exponents, count):
            counts = {exponent: chosen.count(exponent) for exponent in chosen}
            if _reaches(values, counts, _reach(config)):
                return counts
    return None


def _reaches(values: NDArray[np.int64], counts: Mapping[int, int], reach: int) -> bool:
    """Tell whether steps at some exponents add all values: no gap, and far enough."""
    covered = 0
    common = int(np.bitwise_or.reduce(np.abs(values)))
    for exponent in sorted(counts):
        if common % (1 << exponent) and covered < 1 << exponent >> 1:
            return False
        covered += counts[exponent] * reach << exponent
    return covered >= int(np.abs(values).max())
