"""Preprocessing and post-processing are told apart from operators that fell back to the host."""

from __future__ import annotations

import numpy as np
from tvm import relax

from relay_passes.partition.fallbacks import host_work
from tests.relay_passes.models import CNN
from tests.relay_passes.partition.integers import quantized
from vta_config.hardware import VTAConfig


def parts(net: CNN, result: relax.Var, config: VTAConfig) -> tuple[list[str], ...]:
    work = host_work(quantized(net.module(result)), config)
    return tuple([f.operator for f in part] for part in (work.before, work.fallbacks, work.behind))


def test_arithmetic_before_and_softmax_behind(default_config: VTAConfig) -> None:
    net = CNN()
    means = relax.const(np.asarray([1, 2, 3], np.float32).reshape(1, 3, 1, 1))
    x = net.emit(relax.op.add(net.emit(relax.op.multiply(net.data, means)), means))
    x = net.emit(relax.op.nn.softmax(net.head(net.relu(net.conv(x, 8))), axis=-1))
    x = net.emit(relax.op.argmax(x, axis=-1))
    assert parts(net, x, default_config) == (
        ["multiply", "add"],
        [],
        ["nn.softmax", "argmax"],
    )


def test_work_of_layers_is_told_as_it_was(default_config: VTAConfig) -> None:
    """A layer that the host must run, and what is before it, is no post-processing."""
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    x = net.emit(relax.op.exp(net.emit(relax.op.abs(x))))
    x = net.emit(relax.op.nn.softmax(net.head(net.conv(x, 8, kernel=33)), axis=-1))
    before, fallbacks, behind = parts(net, x, default_config)
    assert before == [] and behind == ["nn.softmax"]
    assert {"abs", "exp", "nn.conv2d"} <= set(fallbacks)


def test_nothing_is_around_a_network_without_a_layer_on_vta(default_config: VTAConfig) -> None:
    net = CNN()
    before, fallbacks, behind = parts(net, net.emit(relax.op.sigmoid(net.data)), default_config)
    assert (before, fallbacks, behind) == ([], ["sigmoid"], [])


def test_the_length_of_an_embedding_is_behind(default_config: VTAConfig) -> None:
    """The host divides the floats that it gets: neither they nor their squares lose bits."""
    net = CNN()
    x = net.head(net.relu(net.conv(net.data, 8)))
    total = net.emit(relax.op.sum(net.emit(relax.op.multiply(x, x)), axis=[1], keepdims=True))
    length = net.emit(relax.op.sqrt(total))
    x = net.emit(relax.op.divide(x, net.emit(relax.op.broadcast_to(length, (1, 7)))))
    assert parts(net, x, default_config) == (
        [],
        [],
        ["multiply", "sum", "sqrt", "broadcast_to", "divide"],
    )


def test_a_padding_or_enlargement_of_the_result_is_behind(default_config: VTAConfig) -> None:
    net = CNN()
    x = net.conv(net.relu(net.conv(net.data, 8)), 4)
    x = net.emit(relax.op.nn.pad(x, [0, 0, 0, 0, 1, 1, 1, 1]))
    x = net.emit(relax.op.image.resize2d(x, (28, 28), method="nearest_neighbor"))
    assert parts(net, x, default_config) == ([], [], ["nn.pad", "image.resize2d"])
