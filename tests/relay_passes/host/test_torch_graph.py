"""The float graph in PyTorch, against numpy and TVM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.graph import read_graph, rewrite
from relay_passes.host.float_graph import FloatGraph
from relay_passes.host.torch_graph import TorchGraph, import_torch
from relay_passes.quantize_model import prepare
from relay_passes.scales.layer_bits import layers_by_input
from tests.relay_passes.host.test_float_graph import odd_net
from tests.relay_passes.models import CNN, images, residual_net
from vta_config.errors import ConfigError, UnsupportedModelError


def varied_net() -> Any:
    net = CNN()
    x = net.emit(relax.op.clip(net.conv(net.data, 8, padding=(0, 1, 2, 3)), 0.0, 6.0))
    x = net.emit(relax.op.nn.max_pool2d(x, (3, 3), (2, 2), padding=(1, 1, 1, 1)))
    y = net.emit(relax.op.nn.avg_pool2d(x, (3, 3), (1, 1), padding=(1, 1, 1, 1)))
    y = net.emit(relax.op.multiply(net.emit(relax.op.sigmoid(y)), net.emit(relax.op.tanh(y))))
    x = net.emit(relax.op.concat([x, net.emit(relax.op.subtract(x, y))], axis=1))
    x = net.emit(relax.op.divide(x, net.const(1, 16, 1, 1)))
    x = net.emit(relax.op.squeeze(net.emit(relax.op.mean(x, axis=[2, 3], keepdims=True)), [2, 3]))
    x = net.emit(relax.op.permute_dims(net.emit(relax.op.permute_dims(x, [1, 0]))))
    x = net.emit(relax.op.matmul(net.emit(relax.op.expand_dims(x, 1)), net.const(16, 5)))
    x = net.emit(relax.op.reshape(x, (1, 5)))
    soft = (relax.op.nn.softmax, relax.op.nn.log_softmax)
    return net.module(net.add(*(net.emit(op(x, axis=-1)) for op in soft)))


@pytest.mark.parametrize("unfolded", [False, True])
@pytest.mark.parametrize("make", [varied_net, residual_net, odd_net])
def test_every_tensor_is_numpys(make: Any, unfolded: bool) -> None:
    torch = pytest.importorskip("torch")
    mod = make() if unfolded else prepare(make())
    pair = images(2)
    graph = TorchGraph(mod, torch)
    names = [str(b.var.name) for b in read_graph(mod).bindings]
    tensors = [n for n in names if isinstance(graph.call_of(n).ty, relax.TensorType)]
    with torch.no_grad():
        found = graph.run({"data": torch.from_numpy(np.concatenate(pair))}, tensors)
    known = FloatGraph(mod)
    expected = [known.run(image) for image in pair]
    for name in tensors:
        if name in graph.named("permute_dims")[:1]:  # its images are columns
            continue
        both = np.concatenate([values[name] for values in expected])
        np.testing.assert_allclose(found[name].numpy(), both, rtol=1e-4, atol=1e-5, err_msg=name)
    assert unfolded or list(graph.weights) == list(layers_by_input(mod))


def test_results_are_logits() -> None:
    torch = pytest.importorskip("torch")
    net = CNN()
    logits = net.head(net.conv(net.data, 4))
    mod = prepare(net.module(net.emit(relax.op.nn.softmax(logits, axis=-1))))
    x = torch.from_numpy(np.concatenate(images(2)))
    (found,) = TorchGraph(mod, torch)(x)
    (plain,) = TorchGraph(prepare(net.module(logits)), torch)(x)
    assert found.shape == (2, 7) and torch.equal(found, plain)
    assert found.requires_grad
    assert not TorchGraph(mod, torch, trainable=False)(x)[0].requires_grad


def test_parts_of_the_graph_run_alone() -> None:
    torch = pytest.importorskip("torch")
    mod = residual_net()
    graph = TorchGraph(mod, torch, dtype=torch.float64, trainable=False)
    x = torch.from_numpy(images(1)[0]).double()
    (pool,) = graph.named("nn.max_pool2d")
    (result,) = graph.result_names
    seen: list[str] = []

    def after(name: str, value: Any) -> Any:
        seen.append(name)
        return value

    whole = graph.run({"data": x}, [pool, result], after=after)
    assert seen == [str(b.var.name) for b in read_graph(mod).bindings]
    seen.clear()
    part = graph.run({pool: whole[pool]}, [result], after=after)
    assert torch.equal(part[result], whole[result])
    assert pool not in seen and len(seen) == len(read_graph(mod).bindings) - 5
    assert graph.run({pool: x}, [pool]) == {pool: x}
    # what an operator reads may be changed, and so may its result
    first = next(iter(graph.weights))
    assert graph.reads_of(first) == ("data",)
    doubled = graph.run({"data": x}, [first], before=lambda name, ops: [2 * ops[0], ops[1]])[first]
    again = graph.run({"data": x}, [first], after=lambda name, value: value * 2)[first]
    assert torch.allclose(doubled, again)
    graph.weights[first] = graph.weights[first] * 2
    assert torch.allclose(graph.run({"data": x}, [first])[first], again)


def test_names_that_repeat() -> None:
    torch = pytest.importorskip("torch")
    net = CNN()
    mod = net.module(net.head(net.relu(net.conv(net.data, 4, bias=False))))
    expected = TorchGraph(mod, torch)(torch.ones(1, 3, 12, 12))[0]
    same = rewrite(mod, lambda builder, var, value: builder.emit(value, "data"))
    graph = TorchGraph(same, torch)
    assert torch.equal(graph(torch.ones(1, 3, 12, 12))[0], expected)
    assert graph.result_names == ("data#7",)


def test_refusals() -> None:
    torch = pytest.importorskip("torch")
    must = "must be an operator that has derivatives here, got sin; ask another"
    net = CNN()
    with pytest.raises(UnsupportedModelError, match=must):
        TorchGraph(net.module(net.emit(relax.op.sin(net.data))), torch, hint="ask another")
    net = CNN()
    mod = net.module(net.batch_norm(net.data, training=True))
    with pytest.raises(UnsupportedModelError, match="got nn.batch_norm in training mode"):
        TorchGraph(mod, torch)
    graph = TorchGraph(residual_net(), torch)
    must = "nowhere: must be given, or be a tensor of the graph, got only data given; name a tensor"
    with pytest.raises(UnsupportedModelError, match=must):
        graph.run({"data": torch.ones(1, 3, 12, 12)}, ["nowhere"])


@pytest.mark.usefixtures("no_torch")
def test_without_torch() -> None:
    must = r"Hessian: must have PyTorch for its derivatives, got no module torch; pip install"
    with pytest.raises(ConfigError, match=must):
        import_torch("Hessian")
    with pytest.raises(ConfigError, match='"vta-flow\\[torch\\]", or wait'):
        import_torch("Hessian", hint="wait")
