"""The trace of the Hessian, against the whole Hessian of small networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.calibration.profiling import profile
from relay_passes.graph import constant, read_graph
from relay_passes.host.torch_graph import TorchGraph
from relay_passes.quantize_model import prepare
from relay_passes.scales.bit_widths import Widths
from relay_passes.scales.layer_bits import layers_by_input
from relay_passes.selection import hessian
from relay_passes.selection.sensitivity import Quantized, usual_options
from tests.relay_passes.models import CNN, images
from vta_config.errors import CalibrationError, ConfigError, UnsupportedModelError

CHOICES = [Widths(), Widths(weight_bits=4)]
W4 = CHOICES[1]


def small_net(*, softmax: bool = False) -> Any:
    net = CNN(shape=(1, 2, 5, 5))
    x = net.relu(net.conv(net.data, 3, strides=(2, 2)))
    x = net.head(x, classes=4)
    return prepare(net.module(net.emit(relax.op.nn.softmax(x, axis=-1)) if softmax else x))


DATA = images(2, (1, 2, 5, 5))


@pytest.mark.parametrize("softmax", [False, True])
def test_the_trace_is_that_of_the_whole_hessian(softmax: bool) -> None:
    torch = pytest.importorskip("torch")
    mod = small_net(softmax=softmax)
    calls = {str(b.var.name): b.value for b in read_graph(mod).bindings}
    graph = TorchGraph(mod, torch)
    exact = dict.fromkeys(graph.weights, 0.0)
    for image in DATA:
        x = torch.from_numpy(image)
        own = torch.softmax(graph(x)[0].detach(), -1)
        for name in exact:

            def loss(weight: Any, name: str = name, x: Any = x, own: Any = own) -> Any:
                kept, graph.weights[name] = graph.weights[name], weight
                result = -(own * torch.log_softmax(graph(x)[0], -1)).sum()
                graph.weights[name] = kept
                return result

            weight = torch.from_numpy(np.array(constant(calls[name].args[1])))
            whole = torch.autograd.functional.hessian(loss, weight)
            exact[name] += float(whole.reshape(weight.numel(), -1).trace()) / len(DATA)
    found = hessian.hessian_traces(mod, DATA, vectors=1000)
    assert list(found) == list(layers_by_input(mod))
    for name, trace in exact.items():
        assert found[name] == pytest.approx(trace, rel=0.08), name


def test_perturbations() -> None:
    pytest.importorskip("torch")
    mod = small_net()
    profiles = profile(mod, DATA)
    calls: list[tuple[int, int]] = []
    found = hessian.hessian_sensitivity(
        mod, profiles, DATA, CHOICES, vectors=3, progress=lambda *done: calls.append(done)
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    traces = hessian.hessian_traces(mod, DATA, vectors=3)
    error = Quantized(mod, profiles, usual_options()).weight_error("conv0.acc", 4)
    assert found["conv0.acc"][W4] == pytest.approx(traces["conv0.acc"] / 54 * error)
    assert {row[Widths()] for row in found.values()} == {0.0}
    double = {name: {w: 2 * x for w, x in row.items()} for name, row in found.items()}
    scaled = hessian.on_the_scale_of(double, found)
    assert scaled["conv0.acc"][W4] == pytest.approx(double["conv0.acc"][W4])
    nothing = {name: dict.fromkeys(row, 0.0) for name, row in found.items()}
    assert hessian.on_the_scale_of(double, nothing) == nothing


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    mod = small_net()
    with pytest.raises(CalibrationError, match="sensitivity: must be measured for at least one ch"):
        hessian.hessian_sensitivity(mod, {}, DATA, [])
    with pytest.raises(CalibrationError, match="sensitivity: must be measured on at least one im"):
        hessian.hessian_traces(mod, [])
    must = "must be an operator that has derivatives here, got sin; use the measured sensitivity"
    net = CNN()
    odd = net.module(net.head(net.emit(relax.op.sin(net.data))))
    with pytest.raises(UnsupportedModelError, match=must):
        hessian.hessian_traces(prepare(odd), images(1))


@pytest.mark.usefixtures("no_torch")
def test_without_torch() -> None:
    must = r"Hessian: must have PyTorch for its derivatives, got no module torch; pip install"
    with pytest.raises(ConfigError, match=must):
        hessian.hessian_traces(small_net(), DATA)
