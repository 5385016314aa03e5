"""What a network does with its input before the first layer with weights stays with the host."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from relay_passes.graph import op_name, read_graph
from relay_passes.integers.preprocessing import preprocessing
from relay_passes.operators.table import OPERATORS
from relay_passes.partition.read import layers_of
from relay_passes.variants import VARIANTS
from tests.relay_passes.models import CNN
from tests.relay_passes.partition.integers import quantized
from vta_config.hardware import VTAConfig

MEANS = np.asarray([1.5, -2, 0.5], np.float32).reshape(1, 3, 1, 1)


def normalized(net: CNN) -> relax.Var:
    x = net.emit(relax.op.multiply(net.data, relax.const(MEANS)))
    return net.emit(relax.op.add(x, relax.const(MEANS + 4)))


def found(net: CNN, result: relax.Var) -> list[str]:
    graph = read_graph(net.module(result))
    tensors = preprocessing(graph)
    return [op_name(b.value) for b in graph.bindings if b.var in tensors]


def test_arithmetic_with_constants_for_layers() -> None:
    net = CNN()
    assert found(net, net.conv(normalized(net), 4)) == ["multiply", "add"]
    net = CNN()
    clipped = net.emit(relax.op.clip(net.data, 0, 1))
    assert found(net, net.conv(clipped, 4)) == ["clip"]


def test_what_others_read_is_none() -> None:
    net = CNN()
    x = normalized(net)
    both = net.emit(relax.op.add(net.conv(x, 3), x))
    assert found(net, both) == []  # a residual of the input
    net = CNN()
    assert found(net, normalized(net)) == []  # no layer at all
    net = CNN()
    assert found(net, net.emit(relax.op.add(net.conv(net.data, 3), net.data))) == []


@pytest.mark.parametrize("name", ["profiled", "profiled_fused", "best"])
def test_it_costs_no_layer(name: str, default_config: VTAConfig) -> None:
    kinds = []
    for with_means in (False, True):
        net = CNN()
        x = net.relu(net.conv(normalized(net) if with_means else net.data, 8))
        mod = quantized(net.module(net.head(net.relu(net.conv(x, 8)))), VARIANTS[name].options)
        kinds.append([layer.operator.kind for layer in layers_of(mod, default_config)])
    assert kinds[0] == kinds[1] and set(kinds[0]) <= set(OPERATORS)
