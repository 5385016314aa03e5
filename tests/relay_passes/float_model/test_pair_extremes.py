"""`PairExtremes` writes stacked operands of a maximum or minimum as operators of two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.float_model.pair_extremes import PairExtremes
from relay_passes.graph import op_name, read_graph
from tests.relay_passes.models import CNN

SHAPE = (1, 2, 4, 4)


def stacked(net: CNN, op: Any, *operands: Any, axis: int = 0, **options: Any) -> Any:
    """Return what the importer makes of a Max or Min."""
    wide = [net.emit(relax.op.broadcast_to(x, SHAPE)) for x in operands]
    return net.emit(op(net.emit(relax.op.stack(wide, axis=axis)), axis=[axis], **options))


def operators(mod: Any) -> list[str]:
    return [op_name(b.value) for b in read_graph(PairExtremes()(mod)).bindings]


def number(value: float) -> Any:
    return relax.const(np.float32(value))


@pytest.mark.parametrize(("op", "name"), [(relax.op.max, "maximum"), (relax.op.min, "minimum")])
def test_two_tensors(op: Any, name: str) -> None:
    net = CNN(SHAPE)
    x = net.relu(net.data)
    assert operators(net.module(stacked(net, op, x, net.data))) == ["nn.relu", name]


def test_three_operands_of_which_one_is_a_number() -> None:
    net = CNN(SHAPE)
    x = net.relu(net.data)
    mod = net.module(stacked(net, relax.op.min, number(2.0), x, net.data))
    found = read_graph(PairExtremes()(mod)).bindings
    assert [op_name(b.value) for b in found] == ["nn.relu", "minimum", "minimum"]
    assert found[-1].value.args[1].value.numpy() == 2.0


def test_a_maximum_with_zero_is_a_relu() -> None:
    net = CNN(SHAPE)
    assert operators(net.module(stacked(net, relax.op.max, net.data, number(0.0)))) == ["nn.relu"]


def test_what_is_another_maximum_stays() -> None:
    net = CNN(SHAPE)
    channels = net.emit(relax.op.max(net.data, axis=[1]))
    assert operators(net.module(channels)) == ["max"]
    net = CNN(SHAPE)
    other = stacked(net, relax.op.max, net.data, net.data, axis=1)
    assert operators(net.module(other))[-2:] == ["stack", "max"]
    net = CNN(SHAPE)
    kept = stacked(net, relax.op.max, net.data, net.data, keepdims=True)
    assert operators(net.module(kept))[-2:] == ["stack", "max"]
    net = CNN((1, 2, 1, 1))
    small = stacked(net, relax.op.max, net.data, net.data)  # both are broadcast
    assert operators(net.module(small))[-2:] == ["stack", "max"]
