"""Plan what integers make of int8 tensors element by element: functions, sums, maxima.

The accumulator of such a tensor starts at 0. Every operand is added times an integer, in units of
2^-n of an output step; so the scales of operands and output need no relation. A maximum of two is

    max(a, b) = max(a - b, 0) + b,

a minimum likewise. n is as small as leaves the operands' multipliers within a quarter of a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log2
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relay_passes.integers.hinges import INPUTS, fit_function
from relay_passes.integers.steps import (
    TIMES,
    Step,
    StepsPlan,
    TensorSteps,
    clipped,
    narrowed,
    run_steps,
)
from relay_passes.numerics import exact_log2, round_half_up
from relay_passes.operators.functions import Function
from relay_passes.params import MAX_INT32_SHIFT, QuantParams
from vta_config.portable import MAX_RESIDUAL, MAX_WEIGHT

#: Why the host computes a function, or adds, subtracts or compares two tensors.
MANY_LINES: Final = "no few lines are within one step of the function"
FAR_SCALES: Final = "the scales of its operands and its output are too far apart"
#: How each operand of a pair is first added, and the limit after that; then the second is added.
PAIRS: Final[Mapping[str, tuple[tuple[int, int], str]]] = {
    "add": ((1, 1), ""),
    "subtract": ((1, -1), ""),
    "maximum": ((1, -1), "max"),
    "minimum": ((1, -1), "min"),
}
#: What rounded multipliers may add to the error of a result, in output steps.
_MULTIPLIER_ERROR: Final = 0.25
#: What a rounded multiplier may add to the error of a factor, in steps: all pixels have it.
_FACTOR_ERROR: Final = 0.125
#: The zero point of a factor that is converted and never negative: -128 would take another step.
_FACTOR_ZERO: Final = -127
#: What follows a result's name in that of its converted factor.
_FACTOR: Final = ".factor"
#: Fraction bits at most.
_MOST_BITS: Final = 15
#: How far a function may be from two lines, relative to its largest value, to be counted as them.
_STRAIGHT: Final = 2.0**-20


class Operand(NamedTuple):
    """An int8 tensor: its name, real = scale · (q - zero), and |q - zero| at most."""

    name: str
    scale: float
    zero: int
    reach: int


def function_steps(function: Function, source: Operand, params: QuantParams) -> StepsPlan | None:
    """Return how integers compute a function of an int8 tensor; None where they do not.

    Parameters
    ----------
    function : Function
    source : Operand
    params : QuantParams
        Of the result.
    """
    reals = np.asarray((INPUTS - source.zero) * source.scale, np.float64)
    target = function.values(reals) / params.scale[0] + params.zero_point
    limits = params.qmin, params.qmax
    if target.ndim == 1:
        found = fit_function(target, limits)
        plan = None if found is None else found.plan
    else:
        plan = _by_channel(target, limits)
    return None if plan is None else plan.reading({"": source.name})


def pair_steps(
    kind: str,
    operands: tuple[Operand, Operand],
    params: QuantParams,
    limits: tuple[int, int],
) -> StepsPlan | None:
    """Return how integers add, subtract or compare two int8 tensors; None where they do not.

    Parameters
    ----------
    kind : str
        An operator of `PAIRS`.
    operands : (Operand, Operand)
    params : QuantParams
        Of the result.
    limits : (int, int)
        What it is clipped to.
    """
    signs, limit = PAIRS[kind]
    unit = params.scale[0]
    for bits in range(_MOST_BITS + 1):
        factors = [int(round_half_up(x.scale / unit * 2.0**bits)) for x in operands]
        error = sum(
            abs(m * 0.5**bits - x.scale / unit) * x.reach
            for m, x in zip(factors, operands, strict=True)
        )
        if max(factors) > MAX_RESIDUAL:
            return None
        if error <= _MULTIPLIER_ERROR:
            break
    else:
        return None
    terms = [(sign * m, x) for sign, m, x in zip(signs, factors, operands, strict=True) if m]
    steps = [_added(m, x.name) for m, x in terms]
    zero = -sum(m * x.zero for m, x in terms)
    last = params.zero_point << bits
    if limit:
        steps += [*_constant(zero), Step(op=limit, value=(0,))]
        second, m = operands[1], factors[1]
        steps += [_added(m, second.name)] if m else []
        zero = -m * second.zero
    if all(step.tensor is None for step in steps):
        return None
    steps += narrowed(zero + last, bits, limits)
    return StepsPlan(parts=(TensorSteps(suffix="", steps=tuple(steps)),))


def product_steps(
    data: Operand, factor: Operand, params: QuantParams, limits: tuple[int, int]
) -> StepsPlan | None:
    """Return how integers multiply a tensor by one number per channel; None where they do not.

    A product of integers must be 2^-n steps of the output. Where the scales have no such n, the
    factor is converted first, to the finest scale that has one.

    Parameters
    ----------
    data, factor : Operand
    params : QuantParams
        Of the result.
    limits : (int, int)
        What it is clipped to.
    """
    unit = data.scale * factor.scale / params.scale[0]
    parts: list[TensorSteps] = []
    exponent = exact_log2(unit)
    shift, name, zero = None if exponent is None else -exponent, factor.name, factor.zero
    if shift is None or not 0 <= shift <= MAX_INT32_SHIFT:
        zero = _FACTOR_ZERO if factor.zero < 0 else 0
        most = MAX_WEIGHT - zero
        shift = floor(log2(most / (unit * factor.reach)))
        if not 0 <= shift <= MAX_INT32_SHIFT:
            return None
        converted = _converted(factor, unit * 2.0**shift, zero)
        if converted is None:
            return None
        parts, name = [TensorSteps(suffix=_FACTOR, steps=converted)], _FACTOR
    steps = [
        _added(1, data.name),
        *_constant(-data.zero),
        Step(op=TIMES, value=(zero,), tensor=name),
        *narrowed(params.zero_point << shift, shift, limits),
    ]
    return StepsPlan(parts=(*parts, TensorSteps(suffix="", steps=tuple(steps))))


def _converted(x: Operand, ratio: float, zero: int) -> tuple[Step, ...] | None:
    """Return the steps from a tensor to `ratio` times its number, with another zero point."""
    for bits in range(_MOST_BITS + 1):
        factor = int(round_half_up(ratio * 2.0**bits))
        if abs(factor * 0.5**bits - ratio) * x.reach <= _FACTOR_ERROR:
            break
    if not 1 <= factor <= MAX_RESIDUAL:
        return None
    level = (zero << bits) - factor * x.zero
    return (
        _added(factor, x.name),
        *narrowed(level, bits, (zero or -MAX_WEIGHT, MAX_WEIGHT)),
    )


def _by_channel(target: NDArray[np.float64], limits: tuple[int, int]) -> StepsPlan | None:
    """Return the steps of a function float64[C, 256] that is two lines on either side of 0."""
    if not np.isfinite(target).all():
        return None
    level = target[:, 128]
    left, right = level - target[:, 127], target[:, 129] - level
    lines = level[:, np.newaxis] + INPUTS * np.where(
        INPUTS < 0, left[:, np.newaxis], right[:, np.newaxis]
    )
    most = np.abs(target).max()
    if np.abs(lines - target).max() > _STRAIGHT * most:
        return None
    best: StepsPlan | None = None
    for bits in range(_MOST_BITS + 1):
        below, above = (round_half_up(s * 2.0**bits).astype(np.int64) for s in (left, right))
        bend = above - below
        if bend.min() < 0 < bend.max() or max(np.abs(bend).max(), np.abs(below).max()) > MAX_WEIGHT:
            continue
        constants = round_half_up((level + 0.5) * 2.0**bits).astype(np.int64)
        steps: list[Step] = []
        if bend.any():
            limit = "max" if bend.max() > 0 else "min"
            steps += [_added(bend, ""), Step(op=limit, value=(0,))]
        if below.any():
            steps.append(_added(below, ""))
        steps += [Step(op="add", value=_short(constants)), *clipped(bits, limits)]
        plan = StepsPlan(parts=(TensorSteps(suffix="", steps=tuple(steps)),))
        tensor = np.broadcast_to(INPUTS, (1, *target.shape))
        meant = round_half_up(np.clip(target, *limits))
        if (
            steps[0].tensor is not None
            and np.abs(run_steps(plan, {"": tensor})[0] - meant).max() <= 1
        ):
            best = plan  # more bits are nearer
    return best


def _added(factor: int | NDArray[np.int64], tensor: str) -> Step:
    value = (factor,) if isinstance(factor, int) else _short(factor)
    return Step(op="add_scaled", value=value, tensor=tensor)


def _short(values: NDArray[np.int64]) -> tuple[int, ...]:
    """Return one number where all are equal."""
    return tuple((values[:1] if (values == values[0]).all() else values).tolist())


def _constant(value: int) -> Sequence[Step]:
    return [Step(op="add", value=(value,))] if value else []
