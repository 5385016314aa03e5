"""Observers: what a tensor's profile says its range is.

An observer is a small frozen object; calling it with a `TensorProfile` returns the magnitude that
the largest integer shall stand for. Values beyond it are clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from relay_passes.numerics import scale_for
from relay_passes.params import TensorProfile
from vta_config.errors import CalibrationError

#: Magnitudes that searching observers try, as fractions of the largest value seen.
FRACTIONS: Final = np.geomspace(1.0, 0.1, 70)
#: Powers of two that they try below the one that represents everything.
_OCTAVES: Final = 6


class Observer(Protocol):
    """Anything that turns a profile into the largest magnitude worth representing."""

    def __call__(self, profile: TensorProfile, qmax: int) -> float:
        """Return max|x| to represent, >= 0.

        Parameters
        ----------
        profile : TensorProfile
            What was seen: range, histogram, each image's maximum.
        qmax : int
            Largest integer of the quantized tensor, for observers that weigh its step.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxAbs:
    """Represent everything seen: max(|lo|, |hi|)."""

    def __call__(self, profile: TensorProfile, qmax: int) -> float:
        """Return the largest magnitude seen."""
        return profile.max_abs


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingAverage:
    """Smooth the images' maxima: m <- m + (1 - momentum) * (max|x of image| - m), in order.

    Parameters
    ----------
    momentum : float
        In [0, 1): how slowly m moves.

    Raises
    ------
    CalibrationError
        When momentum is out of range.
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        """Check the momentum."""
        if not 0.0 <= self.momentum < 1.0:
            raise CalibrationError(
                "MovingAverage.momentum",
                "must be in [0, 1)",
                got=self.momentum,
                hint="0.9 is usual",
            )

    def __call__(self, profile: TensorProfile, qmax: int) -> float:
        """Return the smoothed maximum."""
        smooth = float(profile.sample_hi[0])
        for value in profile.sample_hi[1:]:
            smooth += (1.0 - self.momentum) * (float(value) - smooth)
        return smooth


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """Represent a share of the values: the smallest |x| that `percent` % do not exceed.

    Parameters
    ----------
    percent : float
        In (0, 100]; zeros do not count, since a ReLU makes half of the values zero.

    Raises
    ------
    CalibrationError
        When percent is out of range.
    """

    percent: float = 99.99

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0.0 < self.percent <= 100.0:
            raise CalibrationError(
                "Percentile.percent",
                "must be in (0, 100]",
                got=self.percent,
                hint="99.99 is usual",
            )

    def __call__(self, profile: TensorProfile, qmax: int) -> float:
        """Return the upper edge of the histogram's bin where the share is reached."""
        counts, width = magnitudes(profile)
        total = np.cumsum(counts[1:])  # the first bin holds the zeros
        if not len(total) or total[-1] == 0:
            return profile.max_abs
        reached = int(np.searchsorted(total, total[-1] * (self.percent / 100.0)))
        return min(profile.max_abs, (reached + 2) * width)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanSquare:
    """Minimize the mean square error of quantize and dequantize over the histogram.

    Parameters
    ----------
    power_of_two : bool
        Whether only magnitudes that give power-of-two scales are tried.
    """

    power_of_two: bool = False

    def __call__(self, profile: TensorProfile, qmax: int) -> float:
        """Return the best magnitude; of equal ones the largest."""
        return _least_square(profile, qmax, self.power_of_two)


@lru_cache(maxsize=512)  # a profile is asked again by each candidate
def _least_square(profile: TensorProfile, qmax: int, power_of_two: bool) -> float:
    tried = candidates(profile, qmax, power_of_two=power_of_two)
    errors = [square_error(profile, m / qmax, qmax) for m in tried]
    return float(tried[int(np.argmin(errors))])


@dataclass(frozen=True, slots=True, kw_only=True)
class KLDivergence:
    """Minimize KL(P || Q) between the clipped and the quantized histogram of |x|.

    P clips what lies beyond the magnitude into its last bin; Q spreads what each integer stands for
    evenly over the bins that P occupies there (Migacz, 8-bit inference with TensorRT, 2017).

    Parameters
    ----------
    power_of_two : bool
        Whether only magnitudes that give power-of-two scales are tried.
    """

    power_of_two: bool = False

    def __call__(self, profile: TensorProfile, qmax: int) -> float:
        """Return the best magnitude; of equal ones the largest."""
        tried = candidates(profile, qmax, power_of_two=self.power_of_two)
        return float(tried[int(np.argmin([_divergence(profile, m, qmax) for m in tried]))])


def candidates(profile: TensorProfile, qmax: int, *, power_of_two: bool) -> NDArray[np.float64]:
    """Return the magnitudes worth trying, largest first."""
    if profile.max_abs == 0.0:
        return np.zeros(1)
    if not power_of_two:
        return np.asarray(profile.max_abs * FRACTIONS, np.float64)
    top = scale_for(profile.max_abs, qmax) * qmax
    return np.asarray(top * 0.5 ** np.arange(_OCTAVES), np.float64)


def magnitudes(profile: TensorProfile) -> tuple[NDArray[np.float64], float]:
    """Return the histogram of |x|: counts of bins of equal width from 0, and that width."""
    half = len(profile.histogram) // 2
    counts = profile.histogram[half:] + profile.histogram[half - 1 :: -1]
    return counts.astype(np.float64), profile.limit / half


def square_error(profile: TensorProfile, scale: float, qmax: int) -> float:
    """Return the mean of (x - scale * q(x))² over the histogram; the first bin counts as zeros.

    Each bin stands for four values spread over it.
    """
    counts, width = magnitudes(profile)
    if scale == 0.0:
        return 0.0
    places = (np.arange(len(counts))[:, np.newaxis] + (np.arange(4) + 0.5) / 4) * width
    error = np.square(places - scale * np.minimum(np.floor(places / scale + 0.5), qmax)).mean(1)
    error[0] = 0.0
    return float(counts @ error / counts.sum())


def second_moment(profile: TensorProfile) -> float:
    """Return the mean of x² over the histogram; the first bin counts as zeros."""
    counts, width = magnitudes(profile)
    squares = np.square((np.arange(len(counts)) + 0.5) * width)
    squares[0] = 0.0
    return float(counts @ squares / counts.sum())


def _divergence(profile: TensorProfile, magnitude: float, qmax: int) -> float:
    counts, width = magnitudes(profile)
    counts = counts.copy()
    counts[0] = 0.0  # zeros are exact at any scale
    if magnitude == 0.0 or not counts.any():
        return 0.0
    last = min(len(counts), max(1, int(np.ceil(magnitude / width))))
    clipped = counts[:last].copy()
    clipped[-1] += counts[last:].sum()
    level = np.minimum(np.floor((np.arange(last) + 0.5) * width / magnitude * qmax + 0.5), qmax)
    level = level.astype(np.int64)
    inside, occupied = counts[:last], counts[:last] > 0
    held = np.bincount(level, weights=inside, minlength=qmax + 1)
    bins = np.bincount(level, weights=occupied, minlength=qmax + 1)
    spread = np.where(occupied, held[level] / np.maximum(bins[level], 1), 0.0)
    p = clipped / clipped.sum()
    q = spread / max(spread.sum(), 1.0)
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / np.maximum(q[some], 1e-12))))
