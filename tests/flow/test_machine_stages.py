"""flow.machine_stages: layers are found once, and read the same from the partitioned module."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flow.compiler.codegen import compile_function
from flow.frontend.importer import import_model
from flow.pipeline import Pipeline
from flow.verify import expose
from relay_passes.partition.find_layers import Chain, ChainFinder
from relay_passes.partition.read import annotated_functions
from tests.flow.onnx_models import save, tiny_model
from vta_config import VTAConfig


@pytest.fixture
def pipeline(default_config: VTAConfig, tmp_path: Path) -> Pipeline:
    return Pipeline(import_model(save(tiny_model(), tmp_path / "tiny.onnx")), default_config)


def test_layers_are_found_once_a_compile(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantized = pipeline.quantize("single_scale")
    searched = []
    search = ChainFinder.all

    def counted(finder: ChainFinder, *arguments: Any) -> list[Chain]:
        searched.append(finder)
        return search(finder, *arguments)

    monkeypatch.setattr(ChainFinder, "all", counted)
    compiled = pipeline.compile(quantized)
    expose(compiled)  # for a comparison of all tensors
    assert len(searched) == 1 and len(compiled.found.chains) > 1


def test_layers_read_from_a_function_are_those_found(pipeline: Pipeline) -> None:
    compiled = pipeline.compile(pipeline.quantize("single_scale"))
    (function,) = annotated_functions(compiled.partitioned)
    (program,) = compiled.programs
    again = replace(compile_function(function, pipeline.config), plan=program.plan)
    assert again.to_bytes() == program.to_bytes()
