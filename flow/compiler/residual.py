"""Residuals: acc += m · tensor by diagonal weights, split into what the machine's operands hold.

A multiplier is a sum of *totals*, one an exponent at which the accumulator is shifted anyway, and a
total is a sum of diagonal weights: m = Σ_e 2^e · Σ weights. On machines of 8 bits the one exponent
is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import inf
from typing import TYPE_CHECKING, Final

import numpy as np

from flow.program.layouts import blocks
from vta_config.errors import CapacityError
from vta_config.portable import MAX_RESIDUAL, MAX_SHIFT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from relay_passes.partition.layers import Layer, PostOp
    from vta_config.hardware import VTAConfig
    from vta_config.timing import TimingProfile

#: A diagonal weight and how often it is added.
Term = tuple[int, int]
#: Exponents that sums may go through for residuals' sake alone, one or two.
RESIDUAL_EXPONENTS: Final = (
    *((e,) for e in range(1, MAX_SHIFT + 1)),
    *((2 * e, e) for e in range(2, MAX_SHIFT // 2 + 1)),
)
#: Repeats of one GEMM instruction: what its loop counters hold.
_MAX_REPEATS: Final = 1 << 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """acc += plane * m by diagonal weights, m a whole number for each channel.

    Parameters
    ----------
    tensor : str
        The int8 tensor.
    terms : tuple[tuple[tuple[int, int], ...], ...]
        For each block of output channels, (diagonal weight, repeats): m = Σ weight · repeats.
        Empty when channels of one block differ.
    diagonals : int8[oc, steps, block_out, block_in] or None
        Then: each block's wgt elements as they lie in DRAM, whose diagonals add up to m.
    plane : int
        Of the tensor, 0 the lowest digit.
    exponent : int
        The power of two that the accumulator stands for when it is added.
    """

    tensor: str
    terms: tuple[tuple[Term, ...], ...]
    diagonals: NDArray[np.int8] | None = None
    plane: int = 0
    exponent: int = 0

    @property
    def passes(self) -> int:
        """GEMM steps a vector, where it takes most."""
        if self.diagonals is not None:
            return int(self.diagonals.shape[1])
        return max(sum(repeats for _, repeats in block) for block in self.terms)

    def cycles(self, timing: TimingProfile) -> int:
        """Return cycles a vector."""
        return self.passes * timing.gemm_step


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedResiduals:
    """Residuals that are summed up beside the tile, through exponents of their own, then added.

    Parameters
    ----------
    parts : tuple[Residual, ...]
        By falling exponent.
    """

    parts: tuple[Residual, ...]

    @property
    def shifts(self) -> int:
        """Left shifts of the sums."""
        return len({0, *(part.exponent for part in self.parts)}) - 1

    @property
    def passes(self) -> int:
        """Instructions a piece: a reset, the parts, shifts, and an addition that counts twice."""
        return 3 + sum(part.passes for part in self.parts) + self.shifts

    def cycles(self, timing: TimingProfile) -> int:
        """Return cycles a vector."""
        steps = sum(part.cycles(timing) for part in self.parts)
        shifts = self.shifts * timing.alu_imm_step
        return timing.gemm_reset_step + steps + shifts + timing.alu_reg_step


def late_residuals(
    step: PostOp, layer: Layer, config: VTAConfig, *, planes: int
) -> tuple[Residual, ...] | tuple[CopiedResiduals]:
    """Return what adds a residual to sums that were shifted already, in the fewest cycles.

    They stand for themselves, so there is no exponent but 0; multipliers that would take many steps
    then are summed up beside them.
    """
    plain = residuals_of(step, layer, config, planes=planes)
    if config.wgt_bits == 8 == config.inp_bits:
        return plain
    beside = (
        CopiedResiduals(
            parts=residuals_of(step, layer, config, planes=planes, exponents=(*exponents, 0))
        )
        for exponents in RESIDUAL_EXPONENTS
    )
    copied = min(beside, key=lambda parts: parts.cycles(config.profile))
    cycles = sum(part.cycles(config.profile) for part in plain)
    return plain if cycles <= copied.cycles(config.profile) else (copied,)


def residuals_of(
    step: PostOp,
    layer: Layer,
    config: VTAConfig,
    *,
    planes: int = 1,
    exponents: tuple[int, ...] = (0,),
) -> tuple[Residual, ...]:
    """Split a residual's multipliers into as few steps as there can be at these exponents.

    Parameters
    ----------
    step : PostOp
        ``add_tensor`` or ``add_scaled``.
    layer : Layer
    config : VTAConfig
    planes : int
        Of the tensor.
    exponents : tuple[int, ...]
        Falling, the last one 0.

    Raises
    ------
    CapacityError
        When a multiplier is too large.
    """
    factors = multipliers_of(step, layer, config)
    if np.abs(factors).max() > MAX_RESIDUAL:
        raise CapacityError(
            f"{layer.name}: {step.tensor}",
            f"must be multiplied by at most {MAX_RESIDUAL}",
            got=int(factors.flat[np.abs(factors).argmax()]),
            hint="choose a smaller output scale for the residual's producer",
        )
    alike = bool((factors == factors[:, :1]).all())
    split = _alike if alike else _by_channel
    found = (
        part
        for plane in range(planes)
        for part in split(step.tensor, plane, factors << plane * config.inp_bits, exponents, config)
    )
    return tuple(sorted(found, key=lambda part: -part.exponent))


def _alike(
    tensor: str,
    plane: int,
    factors: NDArray[np.int64],
    exponents: tuple[int, ...],
    config: VTAConfig,
) -> Iterator[Residual]:
    """Yield a residual an exponent, of multipliers that are equal for each block's channels."""
    totals = [_totals(int(m), exponents, config.wgt_max)[1] for m in factors[:, 0]]
    for index, exponent in enumerate(exponents):
        terms = tuple(weight_terms(block[index], config.wgt_max) for block in totals)
        if any(terms):
            yield Residual(tensor=tensor, terms=terms, plane=plane, exponent=exponent)


def _by_channel(
    tensor: str,
    plane: int,
    factors: NDArray[np.int64],
    exponents: tuple[int, ...],
    config: VTAConfig,
) -> Iterator[Residual]:
    """Yield a residual an exponent, each lane's multiplier on the diagonals."""
    uppers = exponents[:-1]
    subsets = (s for n in range(len(uppers) + 1) for s in combinations(uppers, n))
    choices = (_nearest(factors, subset, config.wgt_max) for subset in subsets)
    best = min(choices, key=lambda parts: sum(steps for _, _, steps in parts))
    for exponent, totals, steps in best:
        if not steps:
            continue
        parts = totals[:, np.newaxis] // steps + (
            np.arange(steps)[:, np.newaxis] < totals[:, np.newaxis] % steps
        )
        diagonals = (parts[..., np.newaxis] * np.eye(config.block, dtype=np.int64)).astype(np.int8)
        yield Residual(tensor=tensor, terms=(), diagonals=diagonals, plane=plane, exponent=exponent)


def _nearest(
    factors: NDArray[np.int64], uppers: Sequence[int], most: int
) -> list[tuple[int, NDArray[np.int64], int]]:
    """Return (exponent, totals, steps): at each upper exponent the nearest total, then the rest."""
    parts, rest = [], factors
    for exponent in (*uppers, 0):
        totals = rest + (1 << exponent >> 1) >> exponent
        rest = rest - (totals << exponent)
        steps = _most_steps(totals, most)
        parts.append((exponent, totals, steps))
    return parts


@lru_cache(maxsize=4096)
def _totals(
    multiplier: int, exponents: tuple[int, ...], most: int
) -> tuple[float, tuple[int, ...]]:
    """Return the fewest steps of a multiplier, and its total at each exponent."""
    exponent, *lower = exponents
    if not lower:
        total, rest = divmod(multiplier, 1 << exponent)
        return (inf if rest else _steps(total, most)), (total,)
    near = multiplier >> exponent
    best: tuple[float, tuple[int, ...]] = (inf, ())
    for total in sorted({0, *range(near - 1, near + 3)}, key=abs):
        steps, totals = _totals(multiplier - (total << exponent), tuple(lower), most)
        best = min(best, (steps + _steps(total, most), (total, *totals)), key=lambda b: b[0])
    return best


def _steps(total: int, most: int) -> int:
    """Return how many diagonal weights a total takes: ⌈total / most⌉, or of most + 1 below 0."""
    return -(-total // most) if total > 0 else -(total // (most + 1))


def weight_terms(total: int, most: int) -> tuple[Term, ...]:
    """Return (diagonal weight, repeats): all of weights as equal as go."""
    steps = _steps(total, most)
    if not steps:
        return ()
    weight, more = divmod(total, steps)
    terms = ((weight, steps - more), (weight + 1, more))
    return tuple(
        (w, min(_MAX_REPEATS, repeats - first))
        for w, repeats in terms
        for first in range(0, repeats, _MAX_REPEATS)
    )


def steps_of(factors: NDArray[np.int64], config: VTAConfig) -> int:
    """Return how many diagonal weights the multipliers of a block's channels take."""
    return _most_steps(factors, config.wgt_max)


def _most_steps(totals: NDArray[np.int64], most: int) -> int:
    return max(_steps(int(totals.max()), most), _steps(int(totals.min()), most))


def multipliers_of(step: PostOp, layer: Layer, config: VTAConfig) -> NDArray[np.int64]:
    """Return a residual's multiplier for each lane of each block, int64[oc, block]."""
    lanes = channel_lanes(step, layer, config)
    return 1 << lanes if step.op == "add_tensor" else lanes


def channel_lanes(step: PostOp, layer: Layer, config: VTAConfig) -> NDArray[np.int64]:
    """Return a step's operand for each lane of each block of output channels, int64[oc, block]."""
    channels = layer.out_shape[1]
    value = np.broadcast_to(np.asarray(step.value, np.int64), channels)
    padded = np.pad(value, (0, -channels % config.block), mode="edge")
    assert padded.size == blocks(channels, config.block) * config.block
    return padded.reshape(-1, config.block)
