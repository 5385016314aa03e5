"""scripts/train_resnet18.py: it writes what PyTorch computes, the same every time."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from flow.data.models import BUNDLED, load_model
from flow.frontend.importer import import_model
from flow.results.evaluate import OnnxRuntime

torch = pytest.importorskip("torch", reason="PyTorch is an extra")
SCRIPT = Path(__file__).parents[2] / "scripts" / "train_resnet18.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_resnet18", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # as dataclasses want it
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("data", ["digits", "gauges"])
def test_onnx_computes_what_pytorch_does(
    script: ModuleType, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "GAUGES_BATCHES", 8)
    recipe = script.RECIPES[data]
    model, top1 = script.train(recipe, epochs=1, seed=3)
    again, _ = script.train(recipe, epochs=1, seed=3)
    other, _ = script.train(recipe, epochs=1, seed=4)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(model.fc.weight, other.fc.weight)
    proto = script.to_onnx(model, recipe, top1=top1, seed=3, epochs=1)
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    imported = import_model(path)
    assert imported.conv_names[-1] == "layer4.1.conv2" and imported.dense_names == ("fc",)
    network = OnnxRuntime(imported.proto)
    for image in recipe.evaluation().take(5):
        with torch.no_grad():
            expected = model(torch.from_numpy(image)).numpy()[0]
        np.testing.assert_allclose(network(image), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("data", ["digits", "gauges"])
def test_the_bundled_files_are_such_networks(script: ModuleType, data: str) -> None:
    recipe = script.RECIPES[data]
    assert BUNDLED[recipe.model] == recipe.file
    network = script.ResNet18(recipe.channels, recipe.classes)
    weights = {w.name: tuple(w.dims) for w in load_model(recipe.model).proto.graph.initializer}
    expected = {n: tuple(w.shape) for n, w in network.state_dict().items() if w.ndim}
    assert expected.items() <= weights.items()
