"""Each operator in PyTorch, against TVM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.host.float_graph import FloatGraph
from relay_passes.host.torch_graph import TorchGraph
from relay_passes.host.torch_operators import OPERATORS
from tests.relay_passes.models import CNN, images

Make = Callable[[CNN, Any, Any], Any]
op = relax.op


def item(net: CNN, call: Any, index: int) -> Any:
    return relax.TupleGetItem(net.emit(call), index)


def nearest(coordinates: str, rounding: str = "floor") -> dict[str, str]:
    return {
        "method": "nearest_neighbor",
        "coordinate_transformation_mode": coordinates,
        "rounding_method": rounding,
    }


#: From an operator's name, and what else differs, to one of a tensor x and a positive one.
CALLS: dict[str, Make] = {
    "add": lambda net, x, y: op.add(x, y),
    "subtract": lambda net, x, y: op.subtract(x, y),
    "multiply": lambda net, x, y: op.multiply(x, y),
    "divide": lambda net, x, y: op.divide(x, y),
    "maximum": lambda net, x, y: op.maximum(x, y),
    "minimum": lambda net, x, y: op.minimum(x, y),
    "power": lambda net, x, y: op.power(y, x),
    "exp": lambda net, x, y: op.exp(x),
    "log": lambda net, x, y: op.log(y),
    "sqrt": lambda net, x, y: op.sqrt(y),
    "rsqrt": lambda net, x, y: op.rsqrt(y),
    "abs": lambda net, x, y: op.abs(x),
    "negative": lambda net, x, y: op.negative(x),
    "erf": lambda net, x, y: op.erf(x),
    "floor": lambda net, x, y: op.floor(x),
    "round": lambda net, x, y: op.round(x),
    "sigmoid": lambda net, x, y: op.sigmoid(x),
    "tanh": lambda net, x, y: op.tanh(x),
    "clip": lambda net, x, y: op.clip(x, -0.5, 0.25),
    "nn.relu": lambda net, x, y: op.nn.relu(x),
    "nn.relu6": lambda net, x, y: op.nn.relu6(net.emit(op.multiply(y, net.emit(op.exp(y))))),
    "nn.silu": lambda net, x, y: op.nn.silu(x),
    "nn.gelu": lambda net, x, y: op.nn.gelu(x),
    "nn.leakyrelu": lambda net, x, y: op.nn.leakyrelu(x, 0.3),
    "nn.prelu": lambda net, x, y: op.nn.prelu(x, net.const(4), 1),
    "nn.softmax": lambda net, x, y: op.nn.softmax(x, 1),
    "nn.log_softmax": lambda net, x, y: op.nn.log_softmax(x, 3),
    "nn.pad": lambda net, x, y: op.nn.pad(x, [0, 0, 0, 1, 1, 2, 3, 4], "constant", 1.5),
    "nn.pad reflect": lambda net, x, y: op.nn.pad(x, [0, 0, 0, 0, 1, 2, 3, 0], "reflect"),
    "nn.pad replicate": lambda net, x, y: op.nn.pad(x, [0, 0, 0, 0, 1, 2, 3, 0], "replicate"),
    "take": lambda net, x, y: op.take(x, relax.const(np.asarray([2, 0, 3])), 1, mode="clip"),
    "take one": lambda net, x, y: op.take(x, relax.const(np.asarray(1)), 2, mode="clip"),
    "image.resize2d": lambda net, x, y: op.image.resize2d(x, (11, 14), **nearest("asymmetric")),
    "image.resize2d half": lambda net, x, y: op.image.resize2d(
        x, (12, 5), **nearest("half_pixel", "round_prefer_floor")
    ),
    "image.resize2d corners": lambda net, x, y: op.image.resize2d(
        x, (9, 20), method="linear", coordinate_transformation_mode="align_corners"
    ),
    "image.resize2d linear": lambda net, x, y: op.image.resize2d(
        x, (12, 4), method="linear", coordinate_transformation_mode="half_pixel"
    ),
    "nn.conv2d": lambda net, x, y: op.nn.conv2d(
        x, net.const(6, 2, 3, 3), strides=(2, 1), padding=(0, 1, 2, 1), groups=2
    ),
    "nn.conv2d_transpose": lambda net, x, y: op.nn.conv2d_transpose(
        x, net.const(4, 2, 3, 3), strides=(2, 2), padding=(1, 0, 0, 1), output_padding=(1, 1)
    ),
    "nn.max_pool2d": lambda net, x, y: op.nn.max_pool2d(x, (3, 3), (2, 2), padding=(1, 1, 1, 1)),
    "nn.avg_pool2d": lambda net, x, y: op.nn.avg_pool2d(
        x, (3, 3), (2, 2), padding=(1, 1, 1, 1), count_include_pad=True
    ),
    "nn.avg_pool2d without padding": lambda net, x, y: op.nn.avg_pool2d(
        x, (3, 2), (1, 2), padding=(0, 1, 1, 0)
    ),
    "nn.batch_norm": lambda net, x, y: item(
        net,
        op.nn.batch_norm(
            x, net.const(4), net.const(4), net.const(4), relax.const(np.float32([1, 2, 3, 0])),
            axis=1, training=False,
        ),
        0,
    ),
    "matmul": lambda net, x, y: op.matmul(x, net.const(7, 3)),
    "mean": lambda net, x, y: op.mean(x, [2, 3], True),
    "sum": lambda net, x, y: op.sum(x, [1, 3]),
    "max": lambda net, x, y: op.max(x, [2, 3]),
    "min": lambda net, x, y: op.min(x, [1], True),
    "reshape": lambda net, x, y: op.reshape(x, (1, 2, 14, 7)),
    "squeeze": lambda net, x, y: op.squeeze(net.emit(op.mean(x, 1, True)), [1]),
    "expand_dims": lambda net, x, y: op.expand_dims(x, [2]),
    "permute_dims": lambda net, x, y: op.permute_dims(x, [0, 3, 1, 2]),
    "concat": lambda net, x, y: op.concat([x, y, x], 1),
    "split": lambda net, x, y: item(net, op.split(x, 2, 1), 1),
    "split at": lambda net, x, y: item(net, op.split(x, [2, 3], 2), 1),
    "strided_slice": lambda net, x, y: op.strided_slice(
        x, axes=[0, 2, 3], begin=[0, 1, -2], end=[1, 7, 100], strides=[1, 2, 1]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_operators(name: str) -> None:
    torch = pytest.importorskip("torch")
    net = CNN(shape=(1, 4, 7, 7))
    positive = net.emit(op.add(net.emit(op.abs(net.data)), relax.const(np.float32(0.1))))
    mod = net.module(net.emit(CALLS[name](net, net.data, positive)))
    assert any(name.split()[0] == found for found in OPERATORS)
    pair = images(2, (1, 4, 7, 7))
    graph, known = TorchGraph(mod, torch), FloatGraph(mod)
    expected = [known.run(image)[str(known.graph.results[0].name)] for image in pair]
    with torch.no_grad():
        found = graph.run({"data": torch.from_numpy(np.concatenate(pair))}, graph.result_names)
    (result,) = found.values()
    np.testing.assert_allclose(result.numpy(), np.concatenate(expected), rtol=1e-4, atol=1e-5)


def test_every_operator_has_a_case() -> None:
    assert {name.split()[0] for name in CALLS} == set(OPERATORS)
