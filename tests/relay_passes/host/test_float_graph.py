"""A float graph with numpy: tensors as the compiled module has them, whole and from a change on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.calibration.profiling import profiled_tensors
from relay_passes.graph import constant, read_graph
from relay_passes.host.expose import expose_variables
from relay_passes.host.float_graph import FloatGraph
from relay_passes.host.run import HostModule
from relay_passes.quantize_model import prepare
from tests.relay_passes.models import CNN, images, residual_net
from vta_config.errors import CalibrationError


def odd_net() -> Any:
    """Operators of all kinds, some of which only TVM computes."""
    net = CNN()
    x = net.relu(net.conv(net.data, 8, groups=1, dilation=(2, 2), padding=(2, 1, 2, 3)))
    x = net.emit(relax.op.nn.max_pool2d(x, (3, 3), (2, 2), padding=(1, 1, 1, 1)))
    x = net.emit(relax.op.clip(net.conv(x, 8, groups=8), 0.0, 6.0))
    y = net.emit(relax.op.nn.avg_pool2d(x, (2, 2), (1, 1), padding=(0, 0, 1, 1)))
    y = net.emit(relax.op.multiply(y, net.emit(relax.op.sigmoid(y))))
    x = net.emit(relax.op.concat([net.add(x, y), net.emit(relax.op.subtract(x, y))], axis=1))
    x, z = (net.emit(relax.TupleGetItem(net.emit(relax.op.split(x, 2, 1)), i)) for i in (0, 1))
    x = net.emit(relax.op.divide(x, net.emit(relax.op.exp(z))))
    x = net.emit(relax.op.squeeze(net.emit(relax.op.mean(x, axis=[2, 3], keepdims=True)), [2, 3]))
    x = net.emit(relax.op.permute_dims(net.emit(relax.op.permute_dims(x, [1, 0]))))
    x = net.emit(relax.op.matmul(net.emit(relax.op.expand_dims(x, 1)), net.const(8, 5)))
    return net.module(net.emit(relax.op.reshape(x, (1, 5))), z)


NETS = {"residual": residual_net, "odd": odd_net}


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_every_tensor_is_the_compiled_modules(make: Any) -> None:
    mod = prepare(make())
    graph, image = FloatGraph(mod), images(1)[0]
    names = profiled_tensors(mod)[1:]  # without the input
    found = {str(b.var.name): b.var for b in read_graph(mod).bindings}
    exposed = HostModule(expose_variables(mod, [found[name] for name in names]))
    values = graph.run(image)
    for name, expected in zip(names, exposed(image)[-len(names) :], strict=True):
        np.testing.assert_allclose(values[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_what_follows_from_a_change(make: Any) -> None:
    mod = prepare(make())
    graph, (first, second) = FloatGraph(mod), images(2)
    values, others = graph.run(first), graph.run(second)
    whole = [others[str(v.name)] for v in graph.graph.results]
    for result, expected in zip(graph.results(values, {"data": second}), whole, strict=True):
        np.testing.assert_array_equal(result, expected)
    for result, v in zip(graph.results(values, {}), graph.graph.results, strict=True):
        assert result is values[str(v.name)]  # nothing is computed again


def test_another_weight() -> None:
    mod = prepare(residual_net())
    graph, image = FloatGraph(mod), images(1)[0]
    values = graph.run(image)
    weight = constant(graph.calls["conv1.acc"].args[1])
    assert weight is not None
    doubled = graph.compute("conv1.acc", values, weight=2 * weight)
    np.testing.assert_allclose(doubled, 2 * values["conv1.acc"], rtol=1e-5, atol=1e-6)


def test_an_image_of_another_shape() -> None:
    with pytest.raises(CalibrationError, match=r"calibration image: must have shape \[1, 3, 12, 1"):
        FloatGraph(prepare(residual_net())).run(np.zeros((1, 3, 11, 12), np.float32))
