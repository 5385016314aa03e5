"""Round weights so that a layer's output error is small, not each weight's.

The error of a row of weights is (w - s q) C (w - s q)ᵀ with C the covariance of the layer's inputs.
With C = U D Uᵀ, U unit upper triangular, columns are rounded one after the other and each takes
over the errors made before, q_k = round((w_k + (w - s q)_{<k} U_{<k,k}) / s): the linear feedback
of GPTQ (Frantar et al., arXiv 2210.17323) in the form of LDLQ (Chee et al., arXiv 2307.13304).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.moments import Moments
from relay_passes.numerics import quantize
from relay_passes.params import QuantParams

#: Share of the mean variance that is added to each variance where images are many.
USUAL_DAMPING: Final = 0.01
#: Columns rounded between two matrix products.
_COLUMNS: Final = 64
#: Rows of a block of a Cholesky decomposition.
_BLOCK: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondOrderRounder:
    """Round each weight with the errors of those before in mind.

    Parameters
    ----------
    moments : dict[str, Moments]
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

    moments: Mapping[str, Moments] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    damping: float = USUAL_DAMPING
    dampings: Mapping[str, float] = field(default_factory=dict)
    block: int = 16

    def __call__(
        self, name: str, weight: NDArray[np.float32], params: QuantParams, axis: int
    ) -> NDArray[np.int8]:
        """Return int8 of the weight's shape; layers without covariance are rounded to nearest."""
        moments = self.moments.get(name)
        damping = self.dampings.get(name, self.damping)
        if moments is None or not moments.has_covariance or damping == inf:
            return quantize(weight, params, axis=axis, block=self.block)
        rows = np.moveaxis(weight, axis, 0)
        noise = self.noise.get(name, 0.0) / moments.unit**2
        extra = damping * moments.mean_variance + noise
        q = round_rows(
            rows.reshape(len(rows), -1),
            params.scales(len(rows), self.block).astype(np.float32),
            moments.whole(),  # no name for it here: it is large, and freed on the way
            extra=extra,
            qmax=params.qmax,
        )
        return np.ascontiguousarray(np.moveaxis(q.reshape(rows.shape), 0, axis))


def round_rows(
    weight: NDArray[np.float32],
    scale: NDArray[np.float32],
    covariance: NDArray[np.float32],
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
    covariance : float32[K, K]
        Of the inputs.
    extra : float
        Added to its diagonal, or more where the result would not be positive definite.
    qmax : int
        Largest integer.

    Returns
    -------
    int8[O, K]
    """
    size = weight.shape[1]
    order = np.argsort(-np.diag(covariance), kind="stable")  # strong inputs first
    factor = _backward_factor(covariance, order, extra)
    del covariance
    feedback = np.ascontiguousarray(factor[::-1, ::-1], np.float32)
    del factor
    feedback /= np.diag(feedback).copy()
    target = (weight[:, order] / scale[:, np.newaxis]).astype(np.float32)
    q = np.empty_like(target)
    error = np.zeros_like(target)
    for start in range(0, size, _COLUMNS):
        stop = min(start + _COLUMNS, size)
        wanted = target[:, start:stop] + error[:, :start] @ feedback[:start, start:stop]
        for k in range(start, stop):
            column = wanted[:, k - start] + error[:, start:k] @ feedback[start:k, k]
            q[:, k] = np.clip(np.floor(column + np.float32(0.5)), -qmax, qmax)
            error[:, k] = target[:, k] - q[:, k]
    result = np.empty(q.shape, np.int8)
    result[:, order] = q.astype(np.int8)
    return result


def _backward_factor(
    covariance: NDArray[np.float32], order: NDArray[np.int64], extra: float
) -> NDArray[np.float64]:
    """Return the lower factor of C + extra * I with C in backward `order`: U √D, backwards.

    Inputs that hardly vary about a large mean leave float32 covariances with eigenvalues below
    zero: then more than `extra` is added.
    """
    size, backwards, added = len(order), order[::-1], max(extra, 1e-12)
    assert np.isfinite(covariance.sum(dtype=np.float64))
    diagonal = np.diag(covariance)[backwards]
    matrix = np.empty((size, size))  # float64, the largest there is: no second one beside it
    while True:
        for start in range(0, size, _BLOCK):
            rows = backwards[start : start + _BLOCK]
            matrix[start : start + _BLOCK] = covariance[np.ix_(rows, backwards)]
        np.fill_diagonal(matrix, diagonal + np.float32(added))
        try:
            _cholesky(matrix)
            return matrix
        except np.linalg.LinAlgError:
            added *= 10


def _cholesky(matrix: NDArray[np.float64]) -> None:
    """Replace a matrix by its lower Cholesky factor, zeros above, block by block in place.

    numpy's own takes three times the memory of its argument.

    Raises
    ------
    LinAlgError
        When it is not positive definite.
    """
    size = len(matrix)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        block = np.linalg.cholesky(matrix[start:stop, start:stop])
        matrix[start:stop, start:stop] = block
        matrix[start:stop, stop:] = 0.0
        if stop == size:
            break
        below = matrix[stop:, start:stop]
        below[:] = np.linalg.solve(block, below.T).T
        for at in range(stop, size, _BLOCK):
            end = min(at + _BLOCK, size)
            matrix[at:, at:end] -= below[at - stop :] @ below[at - stop : end - stop].T
