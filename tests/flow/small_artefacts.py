"""Small networks, compiled and saved as folders that can be deployed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from flow.backend import PipelineCompiled
from flow.data.models import picture_preprocessing
from flow.frontend.importer import import_model
from flow.options import Options
from flow.session import open_backend
from tests.flow.onnx_models import save, tiny_model, weights
from vta_config import VTAConfig


def compiled_of(proto: onnx.ModelProto, path: Path, machine: str = "default") -> PipelineCompiled:
    """Compile a model by scales that need no calibration."""
    model = import_model(save(proto, path))
    backend = open_backend(model, VTAConfig.load(machine), Options(model=str(path)))
    compiled = backend.compile("single_scale")
    assert isinstance(compiled, PipelineCompiled)
    assert compiled.facts is not None
    assert compiled.facts.preprocessing == picture_preprocessing(model)
    return compiled


def save_one(place: Path) -> Path:
    """Save a network that one program is; return the folder."""
    compiled = compiled_of(tiny_model(shape=(1, 3, 8, 8)), place / "tiny.onnx")
    assert compiled.save_artefact(place / "artefact") == ""
    return place / "artefact"


def softmax_model() -> onnx.ModelProto:
    """Return a network whose last operator, a softmax, the host runs."""
    proto = tiny_model(shape=(1, 3, 8, 8))
    proto.graph.node.append(helper.make_node("Softmax", ["logits"], ["shares"], axis=1))
    proto.graph.output[0].name = "shares"
    return proto


def two_model() -> onnx.ModelProto:
    """Return a network with an operator of the host between two programs."""
    extra = (
        helper.make_node("Softmax", ["r"], ["s"], axis=1),
        helper.make_node("Conv", ["s", "w"], ["e"]),
    )
    proto = tiny_model(shape=(1, 3, 8, 8), extra=extra)
    proto.graph.initializer.extend(weights(w=np.ones((4, 4, 1, 1))))
    return proto


def save_two(place: Path) -> Path:
    """Save that network; return the folder."""
    compiled = compiled_of(two_model(), place / "two.onnx")
    assert compiled.save_artefact(place / "artefact") == ""
    return place / "artefact"
