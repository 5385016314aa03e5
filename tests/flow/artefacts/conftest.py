"""Folders that can be deployed, of small networks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from flow.backend import PipelineCompiled
from flow.data.models import preprocessing_of
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
    assert compiled.facts.preprocessing == preprocessing_of(model)
    return compiled


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a network that one program is; not to be written to."""
    place = tmp_path_factory.mktemp("one")
    compiled = compiled_of(tiny_model(shape=(1, 3, 8, 8)), place / "tiny.onnx")
    assert compiled.save_artefact(place / "artefact") == ""
    return place / "artefact"


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a network with an operator of the host between two programs."""
    place = tmp_path_factory.mktemp("two")
    extra = (
        helper.make_node("Softmax", ["r"], ["s"], axis=1),
        helper.make_node("Conv", ["s", "w"], ["e"]),
    )
    proto = tiny_model(shape=(1, 3, 8, 8), extra=extra)
    proto.graph.initializer.extend(weights(w=np.ones((4, 4, 1, 1))))
    compiled = compiled_of(proto, place / "two.onnx")
    assert compiled.save_artefact(place / "artefact") == ""
    return place / "artefact"


@pytest.fixture
def copy_of_one(one: Path, tmp_path: Path) -> Path:
    """Return a copy of `one` that may be damaged."""
    return Path(shutil.copytree(one, tmp_path / "copy"))
