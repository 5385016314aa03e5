"""Statistics of BatchNorms, and the loss that images are learned with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.calibration.norm_statistics import FLOOR, NormLoss, norms_of, usual_range
from relay_passes.host.torch_graph import TorchGraph
from relay_passes.quantize_model import prepare
from tests.relay_passes.models import CNN, images, residual_net
from vta_config.errors import UnsupportedModelError


def batch_norm(
    net: CNN, x: Any, mean: Any, variance: Any, *, scale: bool = True, axis: int = 1
) -> Any:
    channels = len(mean)
    call = relax.op.nn.batch_norm(
        x,
        net.const(channels),
        net.const(channels),
        relax.const(np.asarray(mean, np.float32)),
        relax.const(np.asarray(variance, np.float32)),
        axis=axis,
        epsilon=1e-3,
        scale=scale,
        center=scale,
        training=False,
    )
    return net.emit(relax.TupleGetItem(net.emit(call), 0))


def test_those_that_say_something() -> None:
    torch = pytest.importorskip("torch")
    mod = residual_net()
    found = norms_of(mod, TorchGraph(mod, torch))
    assert [norm.first for norm in found] == [True, False, False, False]
    net = CNN()
    x = batch_norm(net, net.data, [0, 0, 0], [1, 1, 1])  # folded away
    x = batch_norm(net, x, [0, 0, 1], [1, 1, 1])
    of_constant = batch_norm(net, net.const(1, 3, 12, 12), [1, 2, 3], [1, 1, 1])
    mod = net.module(net.add(x, of_constant))
    (norm,) = norms_of(mod, TorchGraph(mod, torch))
    assert norm.mean.tolist() == [0, 0, 1] and not norm.first


@pytest.mark.parametrize(("scale", "axis"), [(True, 1), (False, 1), (True, 3)])
def test_loss_and_its_derivative(scale: bool, axis: int) -> None:
    torch = pytest.importorskip("torch")
    net = CNN(shape=(1, 3, 5, 3))
    mean, variance = [0.5, -1, 3], [1e-13, 4, 0.25]
    mod = net.module(batch_norm(net, net.data, mean, variance, scale=scale, axis=axis))
    graph = TorchGraph(mod, torch)
    (norm,) = norms_of(mod, graph)
    x = torch.from_numpy(np.concatenate(images(4, (1, 3, 5, 3)))).requires_grad_()
    loss = NormLoss(torch)
    found = graph.run({"data": x}, graph.result_names, instead={norm.name: loss.reader(norm)})
    (result,) = found.values()
    weights = torch.randn(result.shape)
    (loss.total + (result * weights).sum()).backward()

    other = x.detach().double().requires_grad_()
    axes = [0, 2, 3 if axis == 1 else 1]
    seen_mean, seen = other.mean(axes), other.var(axes, correction=0)
    floor = FLOOR * np.mean(variance)
    wanted = torch.tensor(variance).double() + floor
    away = (seen_mean - torch.tensor(mean).double()).square()
    away = away + ((seen + floor).sqrt() - wanted.sqrt()).square()
    expected = (away / wanted).mean()
    (plain,) = TorchGraph(mod, torch, dtype=torch.float64)(other)
    (expected + (plain.reshape(result.shape) * weights).sum()).backward()
    assert float(loss.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert torch.allclose(result.double(), plain.reshape(result.shape), atol=1e-5)
    assert torch.allclose(x.grad.double(), other.grad, rtol=1e-4, atol=1e-6)


def test_dead_channels_do_not_explode() -> None:
    torch = pytest.importorskip("torch")
    net = CNN()
    mod = net.module(batch_norm(net, net.data, [0, 0, 0], [1, 1e-13, 0]))
    graph = TorchGraph(mod, torch)
    (norm,) = norms_of(mod, graph)
    for x in (images(1)[0], np.zeros((1, 3, 12, 12), np.float32)):
        data, loss = torch.from_numpy(x).requires_grad_(), NormLoss(torch)
        graph.run({"data": data}, graph.result_names, instead={norm.name: loss.reader(norm)})
        loss.total.backward()
        assert 0 < float(loss.total.detach()) < 1000 and data.grad.abs().max() < 10


def test_a_range_is_found_where_the_usual_one_is_wrong() -> None:
    torch = pytest.importorskip("torch")
    noise = torch.from_numpy(np.concatenate(images(8)))

    def loss(mean: float, std: float) -> Any:
        return lambda x: float((x.mean() / std - mean / std) ** 2 + (x.std() / std - 1) ** 2)

    for mean, std in ((0.0, 1.0), (0.5, 1.6), (-0.7, 0.8)):
        assert usual_range(lambda count: noise, loss(mean, std)) == (0.0, 1.0)
    assert usual_range(lambda count: noise, loss(120, 60)) == (128, 64)
    assert usual_range(lambda count: noise, loss(0.02, 0.01)) == (1 / 64, 1 / 64)
    overflows = usual_range(lambda count: noise, lambda x: float("nan") if x.std() > 0.1 else 1.0)
    assert overflows[1] < 0.1


def test_refusals() -> None:
    torch = pytest.importorskip("torch")
    mod = prepare(residual_net())
    must = "model: must have BatchNorm statistics to make images from, got no BatchNorm; export it"
    with pytest.raises(UnsupportedModelError, match=must):
        norms_of(mod, TorchGraph(mod, torch))
    net = CNN()
    mod = net.module(batch_norm(net, net.data, [0, 0, 0], [1, 1, 1]))
    with pytest.raises(UnsupportedModelError, match="got mean 0 and variance 1 in every BatchNorm"):
        norms_of(mod, TorchGraph(mod, torch))
