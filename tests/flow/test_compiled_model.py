"""A quantized model with its programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from flow.compiled_model import CompiledModel
from flow.frontend.importer import import_model
from flow.pipeline import Pipeline
from flow.program.program import Program
from relay_passes.graph import read_graph, static_shape
from relay_passes.host.run import HostModule
from relay_passes.variants import STOCK_RELAY
from tests.flow.onnx_models import save, tiny_model, weights
from vta_config import VTAConfig
from vta_config.errors import UnsupportedModelError


@pytest.fixture
def pipeline(default_config: VTAConfig, tmp_path: Path) -> Pipeline:
    return Pipeline(import_model(save(tiny_model(), tmp_path / "tiny.onnx")), default_config)


def test_nothing_left_for_the_machine(pipeline: Pipeline, tmp_path: Path) -> None:
    # Stock Relay skips the first convolution; this network has no other.
    compiled = pipeline.compile(pipeline.quantize(STOCK_RELAY))
    assert "nn.conv2d" in [f.operator for f in compiled.host.fallbacks]
    assert compiled.programs == () and compiled.timed == () and compiled.plan is None
    image = np.ones(pipeline.model.input_shape, np.float32)
    assert np.isfinite(compiled.network()(image)).all()
    sentence = r"x.vta: must have a layer that runs on VTA, got none; run vta-flow deploy"
    with pytest.raises(UnsupportedModelError, match=sentence):
        compiled.save(tmp_path / "x.vta")


def test_each_of_several_programs_has_its_file(default_config: VTAConfig, tmp_path: Path) -> None:
    extra = (
        helper.make_node("Softmax", ["r"], ["s"], axis=1),
        helper.make_node("Conv", ["s", "w"], ["e"]),
    )
    model = tiny_model(extra=extra)
    model.graph.initializer.extend(weights(w=np.ones((4, 4, 1, 1))))
    pipeline = Pipeline(import_model(save(model, tmp_path / "m.onnx")), default_config)
    compiled = pipeline.compile(pipeline.quantize("single_scale"))
    assert compiled.plan is not None
    outputs = {layer.output for layer in compiled.plan.layers}
    assert {r.name for p in compiled.programs for r in p.layers} & outputs
    paths = compiled.save(tmp_path / "m.vta")
    assert [Program.load(path).plan for path in paths] == [compiled.plan] * 2
    assert [path.name for path in paths] == ["m.vta_0.vta", "m.vta_1.vta"]
    assert [Program.load(path).symbol for path in paths] == ["vta_0", "vta_1"]


@pytest.fixture
def compiled(pipeline: Pipeline) -> CompiledModel:
    return pipeline.compile(pipeline.quantize("single_scale"))


def test_the_network_is_the_integers_on_the_host(compiled: CompiledModel) -> None:
    (param,) = read_graph(compiled.quantized).params
    image = np.random.default_rng(0).normal(size=static_shape(param)).astype(np.float32)
    (expected,) = HostModule(compiled.quantized)(image)
    np.testing.assert_array_equal(compiled.network()(image), expected.ravel())
    assert compiled.executable is compiled.executable  # built once


def test_bytes_that_cross_the_border(compiled: CompiledModel) -> None:
    (program,) = compiled.programs
    (port,), (result,) = program.inputs, program.outputs
    assert compiled.crossing_bytes == (
        port.bytes_in(compiled.config) + result.bytes_in(compiled.config)
    )
    assert result.bytes_in(compiled.config) == 16 * 4  # 5 logits of int32 in a block of 16


def test_counters_and_times_of_all_programs(compiled: CompiledModel) -> None:
    both = replace(compiled, programs=compiled.programs * 2)
    one, two = compiled.counters_by_layer(), both.counters_by_layer()
    assert list(one) == list(two) and {record.name for record in compiled.programs[0].layers} < {
        *one
    }
    for layer, counts in one.items():
        assert two[layer] == {key: 2 * value for key, value in counts.items()}
    assert [sim.cycles for sim in both.timed] == [compiled.timed[0].cycles] * 2


def test_one_program_has_the_very_file(compiled: CompiledModel, tmp_path: Path) -> None:
    assert compiled.save(tmp_path / "m.vta") == (tmp_path / "m.vta",)
    assert Program.load(tmp_path / "m.vta").to_bytes() == compiled.programs[0].to_bytes()
