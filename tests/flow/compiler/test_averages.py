"""The factors of an average's sums, and the diagonal weights that they take."""

from __future__ import annotations

import numpy as np

from flow.compiler.averages import diagonal_weights, factors_of
from relay_passes.partition.layers import TensorSpec
from tests.flow.compiler.operators.test_avg_pool2d import avg_pool
from vta_config.hardware import VTAConfig


def test_factors_differ_at_the_edges(default_config: VTAConfig) -> None:
    x = TensorSpec(name="x", shape=(1, 16, 4, 5), dtype="int8")
    layer = avg_pool(np.random.default_rng(4), x, (3, 3))
    assert factors_of(layer).tolist() == [[9, 6, 6, 6, 9], *[[6, 4, 4, 4, 6]] * 2, [9, 6, 6, 6, 9]]
    assert diagonal_weights(layer, default_config) == {4, 6, 9}
    assert diagonal_weights(layer, VTAConfig.load("w4")) == {4, 5, 6}  # 9 = 4 + 5
