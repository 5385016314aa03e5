"""How far a plan is from the numbers of a file."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.integers.deviation import deviation
from relay_passes.integers.plan import LayerPlan, QuantPlan
from relay_passes.params import QuantParams
from relay_passes.scales.kept import KeptModel, KeptTensor, KeptWeight


@I.ir_module
class Network:
    @R.function
    def main(data: R.Tensor((1, 2, 1, 3), "float32")):
        with R.dataflow():
            conv = R.nn.conv2d(
                data, R.const(np.float32([0.5, -0.25]).reshape(2, 1, 1, 1)), groups=2
            )
            R.output(conv)
        return conv


def test_scales_by_those_of_the_file() -> None:
    """Of the data twice, of the channels once and 4/5; the logits have no scale of their own."""
    plan = QuantPlan(
        tensors={"data": QuantParams(scale=(0.2,)), "conv": QuantParams(scale=(9.0,))},
        weights={"conv": QuantParams(scale=(0.005, 0.004), granularity="channel")},
        layers=(LayerPlan(name="conv", inputs=("data",), operators=("conv",)),),
    )
    kept = KeptModel(
        tensors={"data": KeptTensor(scale=0.1), "conv": KeptTensor(scale=0.1)},
        weights={"conv": KeptWeight(peaks=(100, 50))},
    )
    found = deviation(Network, kept, plan)
    assert (found.tensors, found.same_tensors, found.tensor) == (1, 0, "data")
    assert found.tensor_factor == pytest.approx(2.0)
    assert (found.channels, found.same_channels, found.weight) == (2, 1, "conv")
    assert found.weight_factor == pytest.approx(0.8)
