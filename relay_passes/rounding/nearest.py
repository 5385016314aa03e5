"""Round weights to the nearest integer; what a rounder is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from relay_passes import numerics
from relay_passes.params import QuantParams


class WeightRounder(Protocol):
    """Anything that turns a float weight into integers, given its scale."""

    def __call__(
        self, name: str, rows: NDArray[np.float32], params: QuantParams
    ) -> NDArray[np.int8]:
        """Return int8[O, K] of a weight's rows, float32[O, K]; see `weight_rows`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestRounder:
    """Round weights half up to the nearest integer.

    Parameters
    ----------
    block : int
        Output channels a block, for granularity ``block``.
    """

    block: int = 16

    def __call__(
        self, name: str, rows: NDArray[np.float32], params: QuantParams
    ) -> NDArray[np.int8]:
        """Return clip(floor(w / s + 1/2))."""
        return numerics.quantize(rows, params, block=self.block)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenWeights:
    """Take weights that were rounded before.

    Parameters
    ----------
    weights : dict[str, int8[O, K]]
        By layer, one row an output channel.
    """

    weights: Mapping[str, NDArray[np.int8]]

    def __call__(
        self, name: str, rows: NDArray[np.float32], params: QuantParams
    ) -> NDArray[np.int8]:
        """Return the layer's integers."""
        return self.weights[name]
