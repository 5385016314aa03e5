"""scripts/train_digits_resnet18.py: it writes what PyTorch computes, the same every time."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from flow.data.datasets import Preprocessing
from flow.data.digits import digits
from flow.frontend.importer import import_model
from flow.results.evaluate import OnnxRuntime

torch = pytest.importorskip("torch", reason="PyTorch is an extra")
SCRIPT = Path(__file__).parents[2] / "scripts" / "train_digits_resnet18.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_digits_resnet18", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_onnx_computes_what_pytorch_does(script: ModuleType, tmp_path: Path) -> None:
    model, top1 = script.train(epochs=1, seed=3)
    again, _ = script.train(epochs=1, seed=3)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    proto = script.to_onnx(model, top1=top1, seed=3, epochs=1)
    path = tmp_path / "digits.onnx"
    path.write_bytes(proto.SerializeToString())
    imported = import_model(path)
    assert imported.conv_names[-1] == "layer4.1.conv2" and imported.dense_names == ("fc",)
    network = OnnxRuntime(imported.proto)
    recipe = Preprocessing.for_input(imported.input_shape, ratio=1.0)
    for image in digits(recipe, held_out=True).take(5):
        with torch.no_grad():
            expected = model(torch.from_numpy(image)).numpy()[0]
        np.testing.assert_allclose(network(image), expected, rtol=1e-3, atol=1e-4)
