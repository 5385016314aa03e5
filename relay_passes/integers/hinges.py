"""Functions of one int8 tensor as integer steps: a few lines, made of clips of an accumulator.

A function becomes pieces of lines a · q + b, in units of 2^-n of an output step. Slopes of one sign
whose magnitude first rises and then falls are a chain: start with the steepest line, clip it where
flatter ones begin, add the next slope, and so on:

    acc = (a0 - a1) q;  acc = max(acc, low1), min(acc, high1);  acc += (a1 - a2) q;  ...

Each line costs one addition of the tensor (a GEMM step with a diagonal weight, of either sign) and
a MAX or MIN. Other functions, as SiLU with its dip, are the sum of two such chains, split where
one ends; the smaller one is an int8 tensor of its own. Whatever is found counts only if it is
within one step of the rounded function for all 256 inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relay_passes.integers.steps import Step, StepsPlan, TensorSteps, narrowed, run_steps
from relay_passes.numerics import round_half_up
from relay_passes.operators.functions import MOST_CYCLES
from vta_config.isa import MAX_IMM, MIN_IMM
from vta_config.portable import MAX_RESIDUAL, MAX_WEIGHT

#: All int8 numbers.
INPUTS: Final = np.arange(-128, 128)
#: How far lines may be from the function, in output steps; more is tried where little is too much.
_TOLERANCES: Final = (0.3, 0.45, 0.65, 0.9)
#: Fraction bits of slopes and levels that are tried.
_SHIFTS: Final = tuple(range(12))
#: The most lines of a chain.
_MOST_LINES: Final = 16
#: Cycles that are worth a mean squared error of one step squared: 1/12 of it is rounding's.
_ERROR_CYCLES: Final = 24.0
#: What the smaller of two chains may be off, as a share of the tolerance.
_SMALLER_SHARE: Final = 0.4
_INT8: Final = (-128, 127)


class Line(NamedTuple):
    """A piece a · q + b, in 2^-n of an output step."""

    slope: int
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedFunction:
    """Steps that compute a function, and how well.

    Parameters
    ----------
    plan : StepsPlan
        They read the tensor "".
    cycles : int
        Cycles a vector on the stock machine.
    error : float
        Mean squared distance from the function, in output steps.
    """

    plan: StepsPlan
    cycles: int
    error: float

    @property
    def score(self) -> float:
        """What is made small."""
        return self.cycles + _ERROR_CYCLES * self.error


def fit_function(target: NDArray[np.float64], limits: tuple[int, int]) -> FittedFunction | None:
    """Return the steps for a function of an int8 tensor; None where few lines are not enough.

    Parameters
    ----------
    target : float64[256]
        The function of -128 to 127, in steps of the output, zero point added.
    limits : (int, int)
        What the output is clipped to.
    """
    if not np.isfinite(target).all():
        return None
    return _fit(np.clip(target, *_beyond(limits)).tobytes(), limits)


def _beyond(limits: tuple[int, int]) -> tuple[float, float]:
    """Return limits for what will be clipped anyway: how far beyond does not matter."""
    return limits[0] - 2.0**20, limits[1] + 2.0**20


@lru_cache(maxsize=1024)
def _fit(values: bytes, limits: tuple[int, int]) -> FittedFunction | None:
    target = np.frombuffer(values, np.float64)
    best = _best(_chains(target, limits))
    if best is not None:
        return best
    for split in _splits(np.clip(target, *limits)):
        two = _best(_two_chains(target, limits, split))
        best = _best(one for one in (best, two) if one is not None)
    return best if best is not None and best.cycles <= MOST_CYCLES else None


def _best(found: Iterable[FittedFunction]) -> FittedFunction | None:
    return min(found, key=lambda one: one.score, default=None)


def _chains(target: NDArray[np.float64], limits: tuple[int, int]) -> Iterator[FittedFunction]:
    """Yield what one chain makes of a function."""
    rooms = (_Room(target, limits, tolerance) for tolerance in _TOLERANCES)
    for room, shift in product(rooms, _SHIFTS):
        steps = room.chain(shift)
        if steps is None:
            continue
        chain, level = steps
        whole = TensorSteps(suffix="", steps=(*chain, *narrowed(level, shift, limits)))
        yield from _proven(StepsPlan(parts=(whole,)), target, limits)


def _two_chains(
    target: NDArray[np.float64], limits: tuple[int, int], split: int
) -> Iterator[FittedFunction]:
    """Yield what two chains make of a function, one on either side of input `split`."""
    clipped = np.clip(target, *limits)
    middle = clipped[split]
    left, right = (
        np.concatenate([target[:split], np.full(256 - split, middle)]) - middle,
        np.concatenate([np.full(split, middle), target[split:]]),
    )
    reach = [
        float(np.abs(clipped[part] - middle).max()) for part in (slice(split), slice(split, 256))
    ]
    clipped_there = np.arange(len(INPUTS)) >= split  # elsewhere the other chain is added
    if reach[0] > reach[1]:
        left, right, clipped_there = right - middle, left + middle, ~clipped_there
    small = min(reach)
    span = _INT8[1] - _INT8[0]
    if not 0 < small <= span:
        return
    octaves = int(np.floor(np.log2(span / small)))
    # It lies on one side of 0: all of int8 is used.
    offset = _INT8[0] if np.clip(left, -small, small).max() > 0 else _INT8[1]
    for tolerance in _TOLERANCES:
        share = _SMALLER_SHARE * tolerance
        beside = _cheapest_small(left * 2.0**octaves + offset, share * 2.0**octaves)
        if beside is None:
            continue
        room = _Room(right, limits, tolerance - share, clipped_there)
        for shift in _SHIFTS[octaves:]:
            steps = room.chain(shift)
            if steps is None:
                continue
            chain, level = steps
            unit = 1 << shift - octaves
            add = Step(op="add_scaled", value=(unit,), tensor=beside.suffix)
            whole = (*chain, add, *narrowed(level - offset * unit, shift, limits))
            plan = StepsPlan(parts=(beside, TensorSteps(suffix="", steps=whole)))
            yield from _proven(plan, target, limits)


def _cheapest_small(target: NDArray[np.float64], tolerance: float) -> TensorSteps | None:
    """Return the cheapest chain for the smaller of two parts, an int8 tensor of its own."""
    found = []
    room = _Room(target, _INT8, max(tolerance - 0.5, 0.25))
    for shift in _SHIFTS:
        steps = room.chain(shift)
        if steps is not None:
            chain, level = steps
            part = TensorSteps(suffix=".part", steps=(*chain, *narrowed(level, shift, _INT8)))
            found.append((_cycles(part), shift, part))
    return min(found, key=lambda one: one[:2])[2] if found else None


def _splits(target: NDArray[np.float64]) -> list[int]:
    """Return the inputs at which one chain may end and the other begin, as positions."""
    slopes = np.abs(np.diff(target))
    extremes = {int(target.argmin()), int(target.argmax())}
    steep = np.flatnonzero(slopes >= slopes.max() / 2) if slopes.max() > 0 else np.zeros(0, int)
    if len(steep):
        flattest = steep[0] + int(slopes[steep[0] : steep[-1] + 1].argmin())
        extremes.add(int(flattest))
    return sorted(split for split in extremes if 0 < split < 255)


class _Room:
    """What lines must be within, for each tolerance once.

    Parameters
    ----------
    target : float64[256]
    limits : (int, int)
        Where the clip to them decides, there is a bound only on one side.
    tolerance : float
        In output steps.
    clipped : bool[256] or None
        Where a clip to the limits follows; everywhere if None.
    """

    def __init__(
        self,
        target: NDArray[np.float64],
        limits: tuple[int, int],
        tolerance: float,
        clipped: NDArray[np.bool_] | None = None,
    ) -> None:
        """Find the slopes of lines between any two inputs."""
        low = np.minimum(target, limits[1]) - tolerance
        high = np.maximum(target, limits[0]) + tolerance
        anywhere = clipped is None or clipped
        self.low = np.where((target <= limits[0]) & anywhere, -np.inf, low)
        self.high = np.where((target >= limits[1]) & anywhere, np.inf, high)
        count = len(INPUTS)
        #: Least and largest slope of a line that is within the bounds from an input to another.
        self.least = np.full((count, count), -np.inf)
        self.most = np.full((count, count), np.inf)
        for apart in range(1, count):
            i = np.arange(count - apart)
            j = i + apart
            least = (self.low[j] - self.high[i]) / apart
            most = (self.high[j] - self.low[i]) / apart
            least = np.maximum(least, np.maximum(self.least[i + 1, j], self.least[i, j - 1]))
            most = np.minimum(most, np.minimum(self.most[i + 1, j], self.most[i, j - 1]))
            self.least[i, j], self.most[i, j] = least, most

    def chain(self, shift: int) -> tuple[tuple[Step, ...], int] | None:
        """Return a chain's steps and the level still to be added, in 2^-shift; None for no chain.

        Few lines with integer numbers, from left to right, each as long as it can be.
        """
        lines: list[Line] = []
        start = 0
        while start < len(INPUTS):
            line, start = self._longest(2.0**shift, start)
            if line is None or len(lines) == _MOST_LINES:
                return None
            lines.append(line)
        return _steps_of(lines)

    def _longest(self, unit: float, start: int) -> tuple[Line | None, int]:
        """Return the longest line from an input on, and the input after its end."""
        least, most = np.ceil(self.least[start] * unit), np.floor(self.most[start] * unit)
        ends = np.flatnonzero(least[start:] > most[start:])
        end = start + int(ends[0]) if len(ends) else len(INPUTS)
        while end > start:
            part = slice(start, end)
            low, high = self.low[part] * unit, self.high[part] * unit
            line = _within(low, high, INPUTS[part], float(least[end - 1]), float(most[end - 1]))
            if line is not None:
                return line, end
            end -= 1
        return None, start


def _within(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    inputs: NDArray[Any],
    least: float,
    most: float,
) -> Line | None:
    """Return the integer line between bounds whose levels leave most room, or None."""
    first, last = least, most
    if not np.isfinite(first):
        first = min(0.0, last)
    if not np.isfinite(last):
        last = max(0.0, first)
    middle = np.floor((first + last) / 2)
    best: tuple[float, Line] | None = None
    for slope in sorted({first, middle, middle + 1, last, min(max(0.0, first), last)}):
        if not first <= slope <= last:
            continue
        floor = float((low - slope * inputs).max())
        top = float((high - slope * inputs).min())
        if np.ceil(floor) > np.floor(top):
            continue
        if np.isinf(floor) and np.isinf(top):
            level = 0.0
        elif np.isinf(floor) or np.isinf(top):
            level = np.floor(top) if np.isinf(floor) else np.ceil(floor)
        else:
            level = min(max(float(round_half_up((floor + top) / 2)), np.ceil(floor)), np.floor(top))
        room = top - floor
        if best is None or room > best[0]:
            best = room, Line(int(slope), int(level))
    return None if best is None else best[1]


def _steps_of(lines: Sequence[Line]) -> tuple[tuple[Step, ...], int] | None:
    """Return the steps of a chain, and the level of its steepest line; None for no chain."""
    slopes = [line.slope for line in lines]
    if min(slopes) < 0 < max(slopes) or not any(slopes):
        return None
    sizes = np.abs(slopes)
    top = int(sizes.argmax())
    if (np.diff(sizes[: top + 1]) <= 0).any() or (np.diff(sizes[top:]) >= 0).any():
        return None
    centre = lines[top]
    left = {line.slope: line.level for line in lines[:top]}
    right = {line.slope: line.level for line in lines[top + 1 :]}
    falling = sorted({*slopes}, key=abs, reverse=True)
    steps: list[Step] = []
    for slope, after in zip(falling, [*falling[1:], 0], strict=True):
        if slope != after:
            steps.append(Step(op="add_scaled", value=(slope - after,), tensor=""))
        # Lines of falling magnitude: on the left of a rising chain they are below, so MAX.
        for levels, rising in ((left, "max"), (right, "min")):
            if after in levels and slope != after:
                op = rising if slope > after else {"max": "min", "min": "max"}[rising]
                steps.append(Step(op=op, value=(levels[after] - centre.level,)))
    fits = all(
        abs(s.value[0]) <= MAX_RESIDUAL
        if s.tensor is not None
        else MIN_IMM <= s.value[0] <= MAX_IMM
        for s in steps
    )
    return (tuple(steps), centre.level) if fits else None


def _proven(
    plan: StepsPlan, target: NDArray[np.float64], limits: tuple[int, int]
) -> Iterator[FittedFunction]:
    """Yield a plan that is within one step of the rounded function for all inputs."""
    result = run_steps(plan, {"": INPUTS[np.newaxis]})[0]
    clipped = np.clip(target, *limits)
    if np.abs(result - round_half_up(clipped)).max() <= 1:
        cycles = sum(map(_cycles, plan.parts))
        error = float(np.square(result - clipped).mean())
        yield FittedFunction(plan=plan, cycles=cycles, error=error)


def _cycles(part: TensorSteps) -> int:
    """Return cycles a vector: a reset, GEMM steps and ALU passes."""
    steps = (
        -(-max(map(abs, s.value)) // MAX_WEIGHT) if s.op == "add_scaled" else 1 for s in part.steps
    )
    return 1 + sum(steps)
