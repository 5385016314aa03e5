"""What choosers share: largest weights, how scales follow the graph, odd parts."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.scales.bit_widths import Precision
from relay_passes.scales.scales import largest_weights, odd_part, tensor_scales, weights_of

KERNEL = np.float32([[1, -2], [3, 0], [-5, 4]]).reshape(3, 2, 1, 1)
MATRIX = np.float32([[1, 7], [-8, 2], [3, 3]])


@I.ir_module
class Network:
    @R.function
    def main(data: R.Tensor((1, 2, 4, 2), "float32")):
        with R.dataflow():
            pool = R.nn.max_pool2d(data, (2, 1), (2, 1))
            conv = R.nn.conv2d(pool, R.const(KERNEL))
            relu = R.nn.relu(conv)
            mean = R.mean(relu, axis=[2, 3], keepdims=True)
            flat = R.reshape(mean, R.shape([1, 3]))
            dense = R.matmul(flat, R.const(MATRIX))
            other = R.clip(dense, -1.0, 1.0)
            R.output(other)
        return other


@pytest.mark.parametrize(
    ("granularity", "expected"), [("tensor", [5]), ("block", [3, 5]), ("channel", [2, 3, 5])]
)
def test_largest_weights(granularity: str, expected: list[float]) -> None:
    rows = KERNEL.reshape(3, 2)
    assert largest_weights(rows, granularity, 2).tolist() == expected  # type: ignore[arg-type]
    assert largest_weights(np.zeros((0, 2)), "tensor", 2).tolist() == [0]


def test_weights_are_listed_by_rows_with_the_input_they_read() -> None:
    (conv, rows, source), (dense, columns, vector) = weights_of(Network)
    assert (conv, source, dense, vector) == ("conv", "pool", "dense", "flat")
    np.testing.assert_array_equal(rows, KERNEL.reshape(3, 2))
    np.testing.assert_array_equal(columns, MATRIX.T)


def test_scales_follow_the_graph() -> None:
    """Moves have their input's scale; a mean 1/4 of it, times what the chooser says."""
    asked: list[tuple[str, float, int]] = []

    def average(name: str, unit: float, count: int) -> int:
        asked.append((name, unit, count))
        return 3

    own = {"data": 0.5, "conv": 2.0, "relu": 0.25, "dense": 7.0, "other": 1.0}
    precision = Precision(tensors=dict.fromkeys(["mean", "flat"], 6))
    found = tensor_scales(Network, own.__getitem__, average, precision)
    assert asked == [("mean", 0.0625, 4)]  # 2 x 2 pixels
    assert {name: params.scale for name, params in found.items()} == {
        "data": (0.5,), "pool": (0.5,), "conv": (2.0,), "relu": (0.25,),
        "mean": (0.5,), "flat": (0.5,), "dense": (7.0,), "other": (1.0,),
    }  # fmt: skip
    assert {name for name, params in found.items() if not params.signed} == {
        "relu", "mean", "flat",
    }  # fmt: skip
    assert {name for name, params in found.items() if params.bits == 6} == {"mean", "flat"}
    assert {params.bits for params in found.values()} == {6, 8}


@pytest.mark.parametrize(
    ("scale", "odd"), [(1.0, 1.0), (0.125, 1.0), (3.0, 1.5), (0.375, 1.5), (0.3, 1.2)]
)
def test_odd_parts(scale: float, odd: float) -> None:
    assert odd_part(scale) == odd
