"""`Quantize` writes the plan's scales into the graph, and rounds weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.graph import op_name, read_graph
from relay_passes.integers.quantize import Quantize
from relay_passes.params import QuantParams
from relay_passes.rounding.nearest import GivenWeights, NearestRounder
from tests.relay_passes.expected import assert_becomes, assert_same
from tests.relay_passes.integers.stages import FLOATS, PLAN, W0, Pairs


def test_pairs_around_tensors_and_weights() -> None:
    assert_becomes(Quantize(plan=PLAN), FLOATS, Pairs)


def test_a_rounder_makes_the_integers() -> None:
    given = {"conv0.acc": np.int8([[4], [-2]]), "conv1": np.int8([[3, 2]])}
    assert_same(Quantize(plan=PLAN, rounder=GivenWeights(weights=given))(FLOATS), Pairs)


def test_scales_of_blocks_and_of_matrices() -> None:
    """A matrix has its output channels on axis 1; three channels in blocks of two have two."""
    matrix = np.float32([[1, 2, 1.5], [0.5, -1, 3]])
    blocks = QuantParams(scale=(0.5, 0.25), granularity="block")
    plan = replace(PLAN, weights={"dense": blocks}, block=2)

    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 2), "float32")):
            with R.dataflow():
                dense = R.matmul(data, R.const(matrix))
                R.output(dense)
            return dense

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 2), "float32")):
            with R.dataflow():
                data_q = R.quantize(
                    data, R.const(0.5, "float32"), R.const(0, "int8"), axis=-1, out_dtype="int8"
                )
                data_dq = R.dequantize(
                    data_q,
                    R.const(0.5, "float32"),
                    R.const(0, "int8"),
                    axis=-1,
                    out_dtype="float32",
                )
                dense_weight = R.dequantize(
                    R.const(np.int8([[2, 4, 6], [1, -2, 12]])),
                    R.const(np.float32([0.5, 0.5, 0.25])),
                    R.const(np.int8([0, 0, 0])),
                    axis=1,
                    out_dtype="float32",
                )
                dense = R.matmul(data_dq, dense_weight)
                R.output(dense)
            return dense

    assert_becomes(Quantize(plan=plan, rounder=NearestRounder(block=2)), Before, After)


def test_what_no_integer_operator_reads_stays_float() -> None:
    """The sigmoid and the ReLU before it are floats; a tensor without a scale has no pair."""

    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            with R.dataflow():
                conv0 = R.exp(data)
                conv0_relu = R.nn.relu(conv0)
                y = R.sigmoid(conv0_relu)
                R.output(y)
            return y

    mod = Quantize(plan=replace(PLAN, weights={}))(Before)
    assert_same(mod, Before)
    fewer = {name: params for name, params in PLAN.tensors.items() if name != "conv0"}
    kinds = [
        op_name(b.value)
        for b in read_graph(Quantize(plan=replace(PLAN, tensors=fewer))(FLOATS)).bindings
    ]
    assert kinds.count("quantize") == 2 and kinds.count("dequantize") == 4


def test_a_weight_without_scales_stays_float() -> None:
    plan = replace(PLAN, weights={"conv1": PLAN.weights["conv1"]})
    values = {b.var.name: b.value for b in read_graph(Quantize(plan=plan)(FLOATS)).bindings}
    np.testing.assert_array_equal(values["conv0.acc"].args[1].value.numpy(), W0)
    assert "conv1.weight" in values and "conv0.acc.weight" not in values
