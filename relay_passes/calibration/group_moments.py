"""Moments of a convolution's groups: each channel of a depthwise layer has a covariance of its own.

A group's output depends on its own input channels alone, so that of all products of a layer's
inputs only those within a group count: G matrices of K×K in place of one of (G·K)×(G·K).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relay_passes.numerics import power_of_two_at_least

#: Values between 2^-20 and 2^20 have squares that float32 holds and adds well.
USUAL_OCTAVES = 20


class GroupMoments:
    """First and second moments of the input windows of G groups, K values each.

    Parameters
    ----------
    mean : float32[G, K]
        In the order of the weight's rows: input channel of the group, kernel row, kernel column.
    covariance : float32[G, K, K]
        About the mean, of windows divided by `unit`.
    samples : int
        Windows seen.
    unit : float
        A power of two: 1 but for windows whose squares might leave float32.
    """

    __slots__ = ("covariance", "mean", "samples", "unit")

    def __init__(
        self,
        *,
        mean: NDArray[np.float32],
        covariance: NDArray[np.float32],
        samples: int,
        unit: float = 1.0,
    ) -> None:
        """Take the moments."""
        self.mean, self.covariance = mean, covariance
        self.samples, self.unit = samples, unit

    def reordered(self, order: NDArray[np.int64]) -> GroupMoments:
        """Return the moments of groups[order]."""
        return GroupMoments(
            mean=self.mean[order],
            covariance=self.covariance[order],
            samples=self.samples,
            unit=self.unit,
        )

    @property
    def variances(self) -> NDArray[np.float32]:
        """The diagonals of the covariances, float32[G, K]."""
        return np.diagonal(self.covariance, axis1=1, axis2=2)

    @property
    def mean_variance(self) -> float:
        """The mean of all variances."""
        return float(self.variances.mean())

    @property
    def has_covariance(self) -> bool:
        """Whether it was measured: always."""
        return True

    def outputs(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return rows · mean of each output channel, float64[O], of rows float64[O, K]."""
        groups, size = self.mean.shape
        parts = rows.reshape(groups, -1, size)
        return np.asarray(np.einsum("grk,gk->gr", parts, self.mean, dtype=np.float64).reshape(-1))


class GroupSum:
    """Sums of windows and of their products, by group.

    Parameters
    ----------
    groups : int
    size : int
        Values of a group's window, K.
    """

    def __init__(self, groups: int, size: int) -> None:
        """Start with nothing."""
        self._groups, self._size = groups, size
        self._total = np.zeros((groups, size))
        self._products = np.zeros((groups, size, size), np.float32)
        self._samples, self._unit = 0, 0.0  # no unit yet

    def add(self, windows: NDArray[np.float32]) -> None:
        """Add windows of all groups, float32[G·K, P]."""
        x = windows.reshape(self._groups, self._size, -1)
        self._total += x.sum(axis=2, dtype=np.float64)
        if not self._unit and (peak := float(np.abs(x).max(initial=0.0))):
            usual = 2.0**-USUAL_OCTAVES < peak < 2.0**USUAL_OCTAVES
            self._unit = 1.0 if usual else power_of_two_at_least(peak)
        if self._unit not in (0.0, 1.0):
            x = x / np.float32(self._unit)
        self._products += x @ x.transpose(0, 2, 1)
        self._samples += x.shape[2]

    def moments(self) -> GroupMoments:
        """Return the moments."""
        unit = self._unit or 1.0
        mean = self._total / self._samples
        scaled = mean / unit
        covariance = self._products / np.float32(self._samples)
        covariance -= (scaled[:, :, np.newaxis] * scaled[:, np.newaxis, :]).astype(np.float32)
        return GroupMoments(
            mean=mean.astype(np.float32), covariance=covariance, samples=self._samples, unit=unit
        )
