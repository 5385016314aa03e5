"""Correct biases for what rounding the weights adds to a layer's mean output.

E[W x] - E[s q x] = (W - s q) μ is added to the bias (Nagel et al., arXiv 1906.04721), which costs
nothing: biases are int32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.calibration.moments import LayerMoments
from relay_passes.graph import (
    Expr,
    GraphBuilder,
    GraphPass,
    Module,
    op_name,
    read_graph,
    rewrite,
    static_shape,
)
from relay_passes.operators.calls import split_bias, weight_rows
from relay_passes.scales.scales import Scales


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectBias(GraphPass):
    """Add the mean error of rounded weights to the biases of a float graph.

    Parameters
    ----------
    scales : Scales
        Of the weights.
    weights : dict[str, int8[O, K]]
        Rounded weights by layer, one row an output channel.
    moments : dict[str, Moments or GroupMoments]
        Of each layer's input; a layer without, or without a bias, stays as it is.
    block : int
        Output channels a block.
    """

    scales: Scales
    weights: Mapping[str, NDArray[np.int8]]
    moments: LayerMoments
    block: int = 16

    def transform(self, mod: Module) -> Module:
        """Return `mod` with other biases."""
        definitions = read_graph(mod).definitions()

        def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
            found = split_bias(value) if op_name(value) == "add" else None
            layer = found[0].name if found is not None else ""
            if found is None or layer not in self.weights or layer not in self.moments:
                return value
            source = next(v for b, v in definitions.items() if b.name == layer)
            bias = found[1] + self.error(layer, source)
            shape = [1] * len(static_shape(found[0]))
            shape[1] = len(bias)
            return relax.op.add(found[0], relax.const(bias.reshape(shape).astype(np.float32)))

        return rewrite(mod, visit)

    def error(self, name: str, value: Expr) -> NDArray[np.float64]:
        """Return (W - s q) μ of a layer, float64[O]."""
        exact, rounded = weight_rows(value).astype(np.float64), self.weights[name]
        scale = self.scales.weights[name].scales(len(rounded), self.block)
        error = exact - scale[:, np.newaxis] * rounded.astype(np.float64)
        return self.moments[name].outputs(error)
