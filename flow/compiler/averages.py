"""Average pools whose windows contain different numbers of pixels: the factors of their sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flow.compiler.residual import weight_terms
from relay_passes.operators.averages import pixel_counts, sum_factors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from relay_passes.partition.layers import Layer
    from vta_config.hardware import VTAConfig


def factors_of(layer: Layer) -> NDArray[np.int64]:
    """Return the factor of each window's sum, int64[OH, OW]."""
    counts = pixel_counts(
        layer.in_shape[2:], layer.out_shape[2:], layer.kernel, layer.stride, layer.padding[:2]
    )
    return sum_factors(counts)


def diagonal_weights(layer: Layer, config: VTAConfig) -> frozenset[int]:
    """Return the diagonal weights that a layer's factors are sums of."""
    factors = {int(factor) for factor in factors_of(layer).flat}
    return frozenset(w for factor in factors for w, _ in weight_terms(factor, config.wgt_max))
