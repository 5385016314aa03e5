"""Named tensors: by the model's own names, else by operator; layers apart from tensors."""

from __future__ import annotations

import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.float_model.name_tensors import NameTensors
from relay_passes.graph import op_name, read_graph, rewrite
from relay_passes.names import layer_names, with_given_names
from relay_passes.quantize_model import prepare
from tests.relay_passes.expected import assert_becomes
from tests.relay_passes.models import CNN, residual_net

KERNEL = np.ones((3, 3, 1, 1), np.float32)
MATRIX = np.ones((3, 2), np.float32)
BIAS = np.ones((1, 3, 1, 1), np.float32)


@I.ir_module
class Anonymous:
    @R.function
    def main(data: R.Tensor((1, 3, 4, 4), "float32")):
        with R.dataflow():
            lv = R.nn.conv2d(data, R.const(KERNEL))
            lv1 = R.add(lv, R.const(BIAS))
            lv2 = R.nn.relu(lv1)
            lv3 = R.nn.conv2d(lv2, R.const(KERNEL))
            lv4 = R.add(lv3, lv2)
            lv5 = R.clip(lv4, 0.0, 6.0)
            lv6 = R.nn.max_pool2d(lv5, (2, 2), (2, 2))
            lv7 = R.sigmoid(lv6)
            lv8 = R.mean(lv7, axis=[2, 3], keepdims=True)
            lv9 = R.reshape(lv8, R.shape([1, 3]))
            lv10 = R.matmul(lv9, R.const(MATRIX))
            gv = R.add(lv10, R.const(np.ones(2, np.float32)))
            R.output(gv)
        return gv


def test_names_by_operator() -> None:
    @I.ir_module
    class Named:
        @R.function
        def main(data: R.Tensor((1, 3, 4, 4), "float32")):
            with R.dataflow():
                conv0_acc = R.nn.conv2d(data, R.const(KERNEL))
                conv0 = R.add(conv0_acc, R.const(BIAS))
                conv0_relu = R.nn.relu(conv0)
                conv1 = R.nn.conv2d(conv0_relu, R.const(KERNEL))
                conv1_add = R.add(conv1, conv0_relu)
                conv1_add_clip = R.clip(conv1_add, 0.0, 6.0)
                maxpool0 = R.nn.max_pool2d(conv1_add_clip, (2, 2), (2, 2))
                sigmoid0 = R.sigmoid(maxpool0)
                avgpool0 = R.mean(sigmoid0, axis=[2, 3], keepdims=True)
                avgpool0_flat = R.reshape(avgpool0, R.shape([1, 3]))
                dense0_acc = R.matmul(avgpool0_flat, R.const(MATRIX))
                dense0 = R.add(dense0_acc, R.const(np.ones(2, np.float32)))
                R.output(dense0)
            return dense0

    assert_becomes(NameTensors(), Anonymous, Named)
    names = [b.var.name for b in read_graph(NameTensors()(Anonymous)).bindings]
    assert names[:5] == ["conv0.acc", "conv0", "conv0.relu", "conv1", "conv1.add"]  # the points
    # Only sums before a bias are called otherwise than their layer.
    assert layer_names(NameTensors()(Anonymous)) == {"conv0.acc": "conv0", "dense0.acc": "dense0"}
    assert layer_names(Anonymous) == {}


def test_names_of_the_model_stay() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 3, 4, 4), "float32")):
            with R.dataflow():
                stem = R.nn.conv2d(data, R.const(KERNEL))
                lv1 = R.add(stem, R.const(BIAS))
                conv0 = R.nn.relu(lv1)
                lv = R.nn.conv2d(conv0, R.const(KERNEL))
                R.output(lv)
            return lv

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 3, 4, 4), "float32")):
            with R.dataflow():
                stem_acc = R.nn.conv2d(data, R.const(KERNEL))
                stem = R.add(stem_acc, R.const(BIAS))
                stem_relu = R.nn.relu(stem)
                conv0_2 = R.nn.conv2d(stem_relu, R.const(KERNEL))
                R.output(conv0_2)
            return conv0_2

    # conv0 is a name of the model, though the ReLU that had it is called after its layer.
    assert_becomes(NameTensors(), with_given_names(Before, ["stem", "conv0"]), After)


def test_names_of_a_residual_network() -> None:
    names = [b.var.name for b in read_graph(prepare(residual_net())).bindings]
    assert len(set(names)) == len(names)
    assert names[:4] == ["conv0.acc", "conv0", "conv0.relu", "maxpool0"]
    assert {"conv2.add", "conv2.add.relu", "avgpool0", "avgpool0.flat", "dense0"} <= set(names)


def test_given_names_are_kept_and_made_unique() -> None:
    net = CNN()
    mod = net.module(net.relu(net.conv(net.conv(net.data, 4), 4)))
    given = rewrite(
        mod,
        lambda builder, var, value: (
            builder.emit(value, "body.conv") if op_name(value) == "nn.conv2d" else value
        ),
    )
    names = [b.var.name for b in read_graph(NameTensors()(given)).bindings]
    assert names == [
        "body.conv.acc",
        "body.conv",
        "body.conv_2.acc",
        "body.conv_2",
        "body.conv_2.relu",
    ]
