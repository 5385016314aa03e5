"""Round weights so that a layer's output error is small, not each weight's.

The error of a row of weights is (w - s q) C (w - s q)ᵀ with C the covariance of the layer's inputs.
With C = U D Uᵀ, U unit upper triangular, columns are rounded one after the other and each takes
over the errors made before, q_k = round((w_k + (w - s q)_{<k} U_{<k,k}) / s): the linear feedback
of GPTQ (Frantar et al., arXiv 2210.17323) in the form of LDLQ (Chee et al., arXiv 2307.13304).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.calibration.group_moments import GroupMoments
from relay_passes.calibration.moments import LayerMoments, Moments
from relay_passes.numerics import quantize
from relay_passes.params import QuantParams
from relay_passes.requirements import MOMENTS, Need

#: Share of the mean variance that is added to each variance where images are many.
USUAL_DAMPING: Final = 0.01
#: Columns rounded between two matrix products.
_COLUMNS: Final = 64
#: Columns of a panel of a Cholesky decomposition.
_PANEL: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondOrderRounder:
    """Round each weight with the errors of those before in mind.

    Parameters
    ----------
    moments : dict[str, Moments or GroupMoments]
        Of each layer's input, as `collect_moments` returned them.
    noise : dict[str, float]
        Mean square of each layer's input's own rounding error, scale² / 12; added to the diagonal.
    damping : float
        Share of the mean of the diagonal that is added to it, since calibration data are few.
    dampings : dict[str, float]
        Of layers that need another; infinite: rounded to nearest.
    block : int
        Output channels a block, for granularity ``block``.
    """

    needs: ClassVar[frozenset[Need]] = MOMENTS

    moments: LayerMoments = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    damping: float = USUAL_DAMPING
    dampings: Mapping[str, float] = field(default_factory=dict)
    block: int = 16

    def for_block(self, block: int) -> SecondOrderRounder:
        """Return the rounder for blocks of `block` output channels."""
        return replace(self, block=block)

    def learned(
        self,
        moments: LayerMoments,
        *,
        noise: Mapping[str, float],
        dampings: Mapping[str, float],
    ) -> SecondOrderRounder:
        """Return the rounder with the moments, the noise and the dampings of the layers."""
        return replace(self, moments=moments, noise=noise, dampings=dampings)

    def __call__(
        self, name: str, rows: NDArray[np.float32], params: QuantParams
    ) -> NDArray[np.int8]:
        """Return int8[O, K]; layers without covariance are rounded to nearest."""
        moments = self.moments.get(name)
        damping = self.dampings.get(name, self.damping)
        if moments is None or not moments.has_covariance or damping == inf:
            return quantize(rows, params, block=self.block)
        noise = self.noise.get(name, 0.0) / moments.unit**2
        scale = params.scales(len(rows), self.block).astype(np.float32)
        if isinstance(moments, GroupMoments):
            extras = damping * moments.variances.mean(axis=1) + noise
            return round_groups(rows, scale, moments, extra=extras, qmax=params.qmax)
        extra = damping * moments.mean_variance + noise
        return round_rows(rows, scale, moments, extra=extra, qmax=params.qmax)


def round_rows(
    weight: NDArray[np.float32],
    scale: NDArray[np.float32],
    moments: Moments,
    *,
    extra: float,
    qmax: int,
) -> NDArray[np.int8]:
    """Round the rows of a matrix; see the module's text.

    Parameters
    ----------
    weight : float32[O, K]
    scale : float32[O]
        Of each row.
    moments : Moments
        Of the inputs, with their covariance.
    extra : float
        Added to the covariance's diagonal, or more where the result would not be positive definite.
    qmax : int
        Largest integer.

    Returns
    -------
    int8[O, K]
    """
    size = weight.shape[1]
    order = np.argsort(moments.variances, kind="stable")  # strong inputs last: they are first
    lower = moments.ordered(order)
    _factorize(lower, extra)
    diagonal = np.diagonal(lower).copy()[:, np.newaxis]
    target = np.ascontiguousarray((weight[:, order] / scale[:, np.newaxis]).T, np.float32)
    error = np.empty_like(target)
    result = np.empty(target.shape, np.int8)
    for stop in range(size, 0, -_COLUMNS):
        start = max(stop - _COLUMNS, 0)
        wanted = lower[stop:, start:stop].T @ error[stop:]
        wanted /= diagonal[start:stop]
        wanted += target[start:stop]
        feedback = (lower[start:stop, start:stop] / diagonal[start:stop, 0]).T
        for k in range(stop - start - 1, -1, -1):
            q = wanted[k] + feedback[k, k + 1 :] @ error[start + k + 1 : stop]
            q += np.float32(0.5)
            np.floor(q, out=q)
            np.minimum(q, np.float32(qmax), out=q)
            np.maximum(q, np.float32(-qmax), out=q)
            result[start + k] = q
            np.subtract(target[start + k], q, out=error[start + k])
    turned = np.empty(weight.shape, np.int8)
    turned[:, order] = result.T
    return turned


def round_groups(
    weight: NDArray[np.float32],
    scale: NDArray[np.float32],
    moments: GroupMoments,
    *,
    extra: NDArray[np.floating],
    qmax: int,
) -> NDArray[np.int8]:
    """Round the rows of each group as `round_rows` does, all groups at once.

    Parameters
    ----------
    weight : float32[O, K]
        The rows of the groups one after the other.
    scale : float32[O]
    moments : GroupMoments
        Of the inputs of each group.
    extra : floating[G]
        Added to the diagonals, or more where the result would not be positive definite.
    qmax : int

    Returns
    -------
    int8[O, K]
    """
    groups, size = moments.mean.shape
    order = np.argsort(-moments.variances, axis=1, kind="stable")  # strong inputs first
    every, reverse = np.arange(groups)[:, np.newaxis], order[:, ::-1]
    matrix = moments.covariance.astype(np.float64)
    matrix = matrix[every[..., np.newaxis], reverse[:, :, np.newaxis], reverse[:, np.newaxis]]
    added = np.maximum(extra, 1e-12)[:, np.newaxis, np.newaxis]
    while True:
        try:
            factor = np.linalg.cholesky(matrix + added * np.eye(size))
            break
        except np.linalg.LinAlgError:
            added = added * 10
    feedback = factor[:, ::-1, ::-1]
    feedback = feedback / np.diagonal(feedback, axis1=1, axis2=2)[:, np.newaxis]
    shape = (groups, -1, size)
    rows = (weight / scale[:, np.newaxis]).astype(np.float64).reshape(shape)
    target = np.take_along_axis(rows, order[:, np.newaxis], axis=2)
    q, error = np.empty_like(target), np.zeros_like(target)
    for k in range(size):
        wanted = target[:, :, k] + np.einsum("grj,gj->gr", error[:, :, :k], feedback[:, :k, k])
        q[:, :, k] = np.clip(np.floor(wanted + 0.5), -qmax, qmax)
        error[:, :, k] = target[:, :, k] - q[:, :, k]
    result = np.empty(target.shape, np.int8)
    np.put_along_axis(result, np.broadcast_to(order[:, np.newaxis], q.shape), q.astype(np.int8), 2)
    return result.reshape(weight.shape)


def _factorize(matrix: NDArray[np.float32], extra: float) -> None:
    """Replace the lower triangle of C by the lower Cholesky factor of C + extra * I.

    Inputs that hardly vary about a large mean leave float32 covariances with eigenvalues below
    zero: then more than `extra` is added.

    Parameters
    ----------
    matrix : float32[K, K]
        C, symmetric; what is above the diagonal stays.
    extra : float
    """
    diagonal, added = np.diagonal(matrix).copy(), max(extra, 1e-12)
    assert np.isfinite(matrix.sum())
    while True:
        np.fill_diagonal(matrix, diagonal + np.float32(added))
        try:
            _cholesky(matrix)
            return
        except np.linalg.LinAlgError:
            added *= 10
            for i, j in _panels(len(matrix)):  # C again, from what is above
                matrix[j:, i:j] = matrix[i:j, j:].T
                square = np.triu(matrix[i:j, i:j], 1)
                matrix[i:j, i:j] = square + square.T


def _panels(size: int) -> list[tuple[int, int]]:
    """Return first and last column of each panel."""
    return [(start, min(start + _PANEL, size)) for start in range(0, size, _PANEL)]


def _cholesky(matrix: NDArray[np.float32]) -> None:
    """Replace the lower triangle of float32[K, K] by that of its lower Cholesky factor.

    Panel by panel, from those on the left (Golub and Van Loan, Matrix Computations, 4.2.5), with
    the square on the diagonal in float64: nearly all of it are products of matrices. LAPACK's
    takes five times as long in numpy, and four times the memory.

    Raises
    ------
    LinAlgError
        When it is not positive definite.
    """
    for start, stop in _panels(len(matrix)):
        panel = matrix[start:, start:stop] - matrix[start:, :start] @ matrix[start:stop, :start].T
        width = stop - start
        factor = np.linalg.cholesky(panel[:width].astype(np.float64))
        rows, columns = np.tril_indices(width)
        matrix[start + rows, start + columns] = factor[rows, columns]
        inverse = np.linalg.inv(factor).astype(np.float32)
        np.matmul(panel[width:], inverse.T, out=matrix[stop:, start:stop])
