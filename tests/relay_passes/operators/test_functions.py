"""Functions of one tensor in the float graph, in one operator or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.float_model.name_tensors import NameTensors
from relay_passes.graph import read_graph
from relay_passes.operators.functions import functions_of
from relay_passes.quantize_model import prepare
from tests.relay_passes.integers.functions import FUNCTIONS
from tests.relay_passes.models import CNN

INPUTS = np.linspace(-6.0, 6.0, 25)


def hard_swish(net: CNN, x: Any) -> Any:
    clipped = net.emit(relax.op.clip(net.emit(relax.op.add(x, number(3.0))), 0.0, 6.0))
    return net.emit(relax.op.multiply(x, net.emit(relax.op.divide(clipped, number(6.0)))))


def silu(net: CNN, x: Any) -> Any:
    return net.emit(relax.op.multiply(x, net.emit(relax.op.sigmoid(x))))


def hard_sigmoid(net: CNN, x: Any) -> Any:
    y = net.emit(relax.op.multiply(number(1.0 / 6.0), x))
    return net.emit(relax.op.clip(net.emit(relax.op.add(y, number(0.5))), 0.0, 1.0))


def elu(net: CNN, x: Any) -> Any:
    below = net.emit(relax.op.subtract(number(1.0), net.emit(relax.op.exp(x))))
    below = net.emit(relax.op.multiply(number(-1.0), net.relu(below)))
    return net.emit(relax.op.add(below, net.relu(x)))


def one(op: Callable[..., Any], *args: float) -> Callable[[CNN, Any], Any]:
    return lambda net, x: net.emit(op(x, *args))


def number(value: float) -> Any:
    return relax.const(np.float32(value))


def module(make: Callable[[CNN, Any], Any]) -> Any:
    """Return conv -> a function -> conv."""
    net = CNN((1, 2, 4, 4))
    return NameTensors()(net.module(net.conv(make(net, net.conv(net.data, 2)), 2)))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("hard swish", hard_swish),
        ("silu", silu),
        ("silu", one(relax.op.nn.silu)),
        ("hard sigmoid", hard_sigmoid),
        ("elu", elu),
        ("gelu", one(relax.op.nn.gelu)),
        ("sigmoid", one(relax.op.sigmoid)),
        ("tanh", one(relax.op.tanh)),
        ("clip", one(relax.op.clip, -1.0, 1.0)),
        ("leaky relu", one(relax.op.nn.leakyrelu, 0.1)),
        ("abs", one(relax.op.abs)),
    ],
)
def test_what_it_computes(name: str, make: Callable[[CNN, Any], Any]) -> None:
    graph = read_graph(module(make))
    found = functions_of(graph)
    (last,) = [
        var
        for var in found
        if all(r is None or r.var not in found for r in graph.uses().get(var, []))
    ]
    function = found[last]
    assert str(function.source.name) == "conv0"
    np.testing.assert_allclose(
        function.values(INPUTS), FUNCTIONS[name](INPUTS), atol=1e-6, rtol=1e-6
    )


def test_slopes_of_channels() -> None:
    net = CNN((1, 2, 4, 4))
    slopes = relax.const(np.array([0.25, 0.5], np.float32))
    y = net.emit(relax.op.nn.prelu(net.conv(net.data, 2), slopes, axis=1))
    graph = read_graph(prepare(net.module(net.conv(y, 2))))
    (function,) = functions_of(graph).values()
    assert function.values(np.array([-4.0, 4.0])).tolist() == [[-1.0, 4.0], [-2.0, 4.0]]


@pytest.mark.parametrize(
    "make",
    [
        lambda net, x: net.relu(x),
        lambda net, x: net.emit(relax.op.clip(x, 0.0, 6.0)),
        lambda net, x: net.emit(relax.op.add(x, net.relu(net.conv(x, 2)))),
        lambda net, x: net.emit(relax.op.nn.softmax(x, axis=1)),
    ],
    ids=["relu", "relu6", "a residual", "softmax"],
)
def test_what_is_no_function_of_one_tensor(make: Callable[[CNN, Any], Any]) -> None:
    assert functions_of(read_graph(module(make))) == {}


def test_what_prepares_the_input_is_no_function() -> None:
    net = CNN((1, 2, 4, 4))
    x = net.emit(relax.op.multiply(net.data, number(0.5)))
    assert functions_of(read_graph(prepare(net.module(net.conv(x, 2))))) == {}


def test_after_a_relu_it_is_the_relus() -> None:
    """The layer before it makes ReLU and int8 at once."""

    def make(net: CNN, x: Any) -> Any:
        return net.emit(relax.op.multiply(net.relu(x), number(0.3)))

    (function,) = functions_of(read_graph(module(make))).values()
    assert str(function.source.name) == "conv0.relu"
    assert function.values(np.array([1.0, 2.0])).tolist() == pytest.approx([0.3, 0.6])
