"""Every layer's output becomes a result, in order, under the name that its layer gives it."""

from __future__ import annotations

import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.host.run import HostModule
from relay_passes.partition.expose_tensors import expose_tensors
from tests.relay_passes.expected import assert_becomes
from tests.relay_passes.integers.stages import INTEGERS, Q0, Q1
from vta_config import VTAConfig


def test_outputs_of_layers_follow_the_results(default_config: VTAConfig) -> None:
    @I.ir_module
    class Exposed:
        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            with R.dataflow():
                data_q_scaled = R.multiply(data, R.const(2, "float32"))
                data_q_half = R.add(data_q_scaled, R.const(0.5, "float32"))
                data_q_floor = R.floor(data_q_half)
                data_q_clip = R.clip(data_q_floor, -127.0, 127.0)
                data_q = R.astype(data_q_clip, "int8")
                conv0_acc = R.nn.conv2d(data_q, R.const(Q0), out_dtype="int32")
                conv0_relu_bias = R.add(conv0_acc, R.const(np.int32([3, -7]).reshape(1, 2, 1, 1)))
                conv0_relu_shr = R.right_shift(conv0_relu_bias, R.const(1, "int32"))
                conv0_relu_clip = R.clip(conv0_relu_shr, 0, 127)
                conv0_relu = R.astype(conv0_relu_clip, "int8")
                conv1_acc = R.nn.conv2d(conv0_relu, R.const(Q1), out_dtype="int32")
                conv1_float = R.astype(conv1_acc, "float32")
                conv1_real = R.multiply(conv1_float, R.const(0.125, "float32"))
                R.output(conv0_relu, conv1_acc, conv1_real)
            return conv1_real, conv0_relu, conv1_acc

    assert_becomes(lambda mod: expose_tensors(mod, default_config)[0], INTEGERS, Exposed)
    # An accumulator is called like its layer.
    assert expose_tensors(INTEGERS, default_config)[1] == ("conv0.relu", "conv1")


def test_the_values_are_the_layers_integers(default_config: VTAConfig) -> None:
    """Pixels q = [1, 3, -1, 2]: clip((4 q + 3) >> 1, 0, 127), then 3 times that, times 1/8."""
    x = np.float32([0.5, 1.25, -0.75, 1.0]).reshape(1, 1, 2, 2)
    real, relu, acc = HostModule(expose_tensors(INTEGERS, default_config)[0])(x)
    assert relu.reshape(2, 4).tolist() == [[3, 7, 0, 5], [0, 0, 0, 0]] and relu.dtype == np.int8
    assert acc.reshape(-1).tolist() == [9, 21, 0, 15] and acc.dtype == np.int32
    assert real.reshape(-1).tolist() == [1.125, 2.625, 0.0, 1.875]
