"""Round weights to the nearest integer; what a rounder is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from relay_passes import numerics
from relay_passes.calibration.moments import LayerMoments
from relay_passes.params import QuantParams
from relay_passes.requirements import NOTHING, Need


class WeightRounder(Protocol):
    """Anything that turns a float weight into integers, given its scale."""

    @property
    def needs(self) -> frozenset[Need]:
        """What it requires besides the weight."""
        ...

    def for_block(self, block: int) -> WeightRounder:
        """Return the rounder for a machine whose shifts serve `block` output channels."""
        ...

    def learned(
        self,
        moments: LayerMoments,
        *,
        noise: Mapping[str, float],
        dampings: Mapping[str, float],
    ) -> WeightRounder:
        """Return the rounder with what it needs of the images; see `SecondOrderRounder`."""
        ...

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

    needs: ClassVar[frozenset[Need]] = NOTHING

    block: int = 16

    def for_block(self, block: int) -> NearestRounder:
        """Return the rounder for blocks of `block` output channels."""
        return replace(self, block=block)

    def learned(
        self,
        moments: LayerMoments,
        *,
        noise: Mapping[str, float],
        dampings: Mapping[str, float],
    ) -> NearestRounder:
        """Return the rounder itself: it learns nothing."""
        return self

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

    needs: ClassVar[frozenset[Need]] = NOTHING

    weights: Mapping[str, NDArray[np.int8]]

    def for_block(self, block: int) -> GivenWeights:
        """Return the rounder itself: the weights are rounded."""
        return self

    def learned(
        self,
        moments: LayerMoments,
        *,
        noise: Mapping[str, float],
        dampings: Mapping[str, float],
    ) -> GivenWeights:
        """Return the rounder itself: the weights are rounded."""
        return self

    def __call__(
        self, name: str, rows: NDArray[np.float32], params: QuantParams
    ) -> NDArray[np.int8]:
        """Return the layer's integers."""
        return self.weights[name]
