"""Ordered channels: equal results, like weights in one block."""

from __future__ import annotations

import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.float_model.channels import ChannelGroup, layer_weights
from relay_passes.float_model.permute_channels import PermuteChannels
from relay_passes.host.run import HostModule
from relay_passes.quantize_model import prepare
from tests.relay_passes.expected import assert_becomes
from tests.relay_passes.models import CNN, images, residual_net


def spread(weights: np.ndarray, block: int) -> float:
    power = np.square(np.abs(weights).reshape(len(weights), -1).max(axis=1))
    return float(power.reshape(-1, block).max(axis=1).sum() / power.sum())


def test_results_stay_and_blocks_are_alike() -> None:
    mod = prepare(residual_net())
    ordered = PermuteChannels(block=4)(mod)
    for x in images(2):
        np.testing.assert_allclose(
            HostModule(mod, fast=True)(x)[0], HostModule(ordered, fast=True)(x)[0], atol=1e-3
        )
    before, after = layer_weights(mod), layer_weights(ordered)
    for name in ("conv1.acc", "conv4.acc"):  # one writer: sorted
        peaks = np.abs(after[name]).reshape(len(after[name]), -1).max(axis=1)
        assert (np.diff(peaks) <= 0).all()
    stream = ("conv2.acc", "conv3.acc", "conv5.acc")
    assert sum(spread(after[n], 4) for n in stream) < sum(spread(before[n], 4) for n in stream)
    np.testing.assert_array_equal(
        np.sort(before["conv1.acc"], None), np.sort(after["conv1.acc"], None)
    )


def test_small_groups_keep_their_order() -> None:
    mod = prepare(residual_net())
    before, after = layer_weights(mod), layer_weights(PermuteChannels(block=16)(mod))
    assert all(np.array_equal(before[n], after[n]) for n in before)


def test_channels_in_the_order_of_their_largest_weights() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            with R.dataflow():
                conv0_acc = R.nn.conv2d(
                    data, R.const(np.float32([1, -4, 2, 8]).reshape(4, 1, 1, 1))
                )
                conv0 = R.add(conv0_acc, R.const(np.float32([10, 20, 30, 40]).reshape(1, 4, 1, 1)))
                relu = R.nn.relu(conv0)
                conv1 = R.nn.conv2d(
                    relu, R.const(np.float32([[1, 2, 3, 4], [5, 6, 7, 8]]).reshape(2, 4, 1, 1))
                )
                R.output(conv1)
            return conv1

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            with R.dataflow():
                conv0_acc = R.nn.conv2d(
                    data, R.const(np.float32([8, -4, 2, 1]).reshape(4, 1, 1, 1))
                )
                conv0 = R.add(conv0_acc, R.const(np.float32([40, 20, 30, 10]).reshape(1, 4, 1, 1)))
                relu = R.nn.relu(conv0)
                conv1 = R.nn.conv2d(
                    relu, R.const(np.float32([[4, 2, 3, 1], [8, 6, 7, 5]]).reshape(2, 4, 1, 1))
                )
                R.output(conv1)
            return conv1

    assert_becomes(PermuteChannels(block=2), Before, After)


def test_two_writers_share_an_order() -> None:
    """Channels 0 and 2 are the larger ones of both: they share a block, and no swap pays."""
    group = ChannelGroup(
        channels=4, tensors=("a", "b", "sum"), writers=("a", "b"), readers=(), scalable=True
    )
    weights = {
        "a": np.asarray([4.0, 1.0, 4.0, 1.0]).reshape(4, 1, 1, 1),
        "b": np.asarray([8.0, 1.0, 8.0, 1.0]).reshape(4, 1, 1, 1),
    }
    assert PermuteChannels(block=2).order(group, weights).tolist() == [0, 2, 1, 3]


def test_channels_of_a_depthwise_layer_and_its_writer_share_an_order() -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 24, 1))
    x = net.relu(net.conv(x, 24, groups=24))
    mod = prepare(net.module(net.head(net.relu(net.conv(x, 8, 1)))))
    ordered = PermuteChannels(block=4)(mod)
    for x in images(2):
        np.testing.assert_allclose(
            HostModule(mod, fast=True)(x)[0], HostModule(ordered, fast=True)(x)[0], atol=1e-4
        )
    before, after = layer_weights(mod), layer_weights(ordered)
    names = ("conv0.acc", "conv1.acc")
    assert sum(spread(after[n], 4) for n in names) < sum(spread(before[n], 4) for n in names)
