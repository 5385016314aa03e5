"""Residuals between two halves of a shift, where their multipliers are multiples of a power of two.

For every k of 0 to n, ⌊(a + 2^k · q) / 2^n⌋ = ⌊(⌊a / 2^k⌋ + q) / 2^(n - k)⌋, so a residual times
2^k · m may be added as m · residual after a shift by k. That takes fewer diagonal weights: 512
takes five of at most 127, and 1 takes one. No rounding is added, and nothing becomes larger. Where
k is n, there is no further shift.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flow.compiler.residual import channel_lanes, multipliers_of, steps_of
from flow.program.layouts import blocks
from vta_config.portable import MAX_SHIFT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from relay_passes.partition.layers import Layer, PostOp
    from vta_config.hardware import VTAConfig


class _Split(NamedTuple):
    """Which post-ops are added after a shift by k, k for each block of channels, and the cycles.

    The cycles are those of a vector of each block, summed up: of diagonal weights and shifts.
    """

    cycles: int
    moved: tuple[int, ...]
    first: NDArray[np.int64]


def with_split_shift(
    post_ops: Sequence[PostOp], layer: Layer, config: VTAConfig
) -> Sequence[PostOp]:
    """Return a layer's post-ops with residuals where they take the fewest cycles.

    Machines with narrow operands add residuals between left shifts instead (residual.py).
    """
    shift = next((i for i, op in enumerate(post_ops) if not op.row.addition), len(post_ops))
    residuals = tuple(i for i in range(shift) if post_ops[i].row.residual)
    if config.narrow or not residuals or shift == len(post_ops) or post_ops[shift].op != "shr":
        return post_ops
    amounts = channel_lanes(post_ops[shift], layer, config)
    if (amounts != amounts[:, :1]).any():  # by register, which takes two cycles
        return post_ops
    tried = {(), residuals, *((i,) for i in residuals)}
    ways = [_split(post_ops, moved, amounts[:, 0], layer, config) for moved in sorted(tried)]
    best = min(ways, key=lambda way: way.cycles)
    if not best.first.any():
        return post_ops
    return [
        *(op for i, op in enumerate(post_ops[:shift]) if i not in best.moved),
        replace(post_ops[shift], value=_by_channel(best.first, layer, config)),
        *(_divided(post_ops[i], best.first, layer, config) for i in best.moved),
        replace(post_ops[shift], value=_by_channel(amounts[:, 0] - best.first, layer, config)),
        *post_ops[shift + 1 :],
    ]


def _split(
    post_ops: Sequence[PostOp],
    moved: tuple[int, ...],
    amounts: NDArray[np.int64],
    layer: Layer,
    config: VTAConfig,
) -> _Split:
    """Choose for each block the power of two that leaves the fewest cycles."""
    timing = config.profile
    factors = {
        i: multipliers_of(op, layer, config) for i, op in enumerate(post_ops) if op.row.residual
    }
    first, total = np.zeros_like(amounts), 0
    for block, amount in enumerate(amounts.tolist()):
        choices = []
        for k in range(amount + 1 if moved else 1):
            divided = {i: f[block] >> k if i in moved else f[block] for i, f in factors.items()}
            if any((divided[i] << k != factors[i][block]).any() for i in moved):
                break
            steps = sum(steps_of(lanes, config) for lanes in divided.values())
            shifts = blocks(k, MAX_SHIFT) + blocks(amount - k, MAX_SHIFT)
            choices.append((steps * timing.gemm_step + shifts * timing.alu_imm_step, k))
        cycles, first[block] = min(choices)
        total += cycles
    return _Split(total, moved, first)


def _divided(op: PostOp, first: NDArray[np.int64], layer: Layer, config: VTAConfig) -> PostOp:
    """Return a residual's addition with its multipliers divided by 2^first."""
    factors = multipliers_of(op, layer, config) >> first[:, np.newaxis]
    value = factors.reshape(-1)[: layer.out_shape[1]].astype(np.int32)
    return replace(op, op="add_scaled", value=value)


def _by_channel(numbers: NDArray[np.int64], layer: Layer, config: VTAConfig) -> NDArray[np.int32]:
    """Repeat the number of each block for its channels."""
    return np.repeat(numbers, config.block)[: layer.out_shape[1]].astype(np.int32)
