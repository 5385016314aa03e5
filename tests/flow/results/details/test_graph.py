"""The network as it runs: layers, operators on the host, and the tensors between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper

from flow.compiled_model import CompiledModel
from flow.frontend.importer import import_model
from flow.pipeline import Pipeline
from flow.results.details.graph import network_graph
from flow.results.details.types import GraphNode, NetworkGraph
from relay_passes.variants import STOCK_RELAY
from tests.flow.onnx_models import save, tiny_model, weights
from vta_config import VTAConfig


def graph(compiled: CompiledModel) -> NetworkGraph:
    return network_graph(compiled.quantized, compiled.partitioned, compiled.found, compiled.plan)


def is_whole(found: NetworkGraph) -> bool:
    """Tell whether each tensor is made once, before it is read."""
    known: set[str] = set()
    for node in found.nodes:
        assert set(node.inputs) <= known, node
        assert node.output not in known, node
        known.add(node.output)
    assert set(found.outputs) <= known
    return {t.name for t in found.tensors} == known


def by_operator(found: NetworkGraph) -> dict[str, GraphNode]:
    return {node.operator: node for node in found.nodes}


def test_a_network_on_vta(default_config: VTAConfig, tmp_path: Path) -> None:
    pipeline = Pipeline(import_model(save(tiny_model(), tmp_path / "m.onnx")), default_config)
    pipeline.calibrate(np.random.default_rng(0).normal(0, 1, (4, 1, 3, 8, 8)).astype(np.float32))
    found = graph(pipeline.compile(pipeline.quantize("best")))
    assert is_whole(found)
    nodes = by_operator(found)
    assert found.nodes[0].operator == "input" and nodes["quantize"].inputs == (
        found.nodes[0].output,
    )
    assert nodes["conv2d"].place == "vta" and nodes["conv2d"].program == "vta_0"
    assert nodes["conv2d"].inputs == (nodes["quantize"].output,)
    assert nodes["dequantize"].place == "host" and found.outputs == (nodes["dequantize"].output,)
    # What quantizes is one node, not an operator for each step.
    assert len([n for n in found.nodes if n.place == "host"]) == 3
    tensors = {t.name: t for t in found.tensors}
    own = tensors[nodes["conv2d"].output]
    assert own.dtype == "int8" and own.bits == 8 and len(own.scale) == 1 and own.shape[1] == 4
    assert len(tensors[nodes["quantize"].output].scale) == 1
    assert tensors[found.outputs[0]].dtype == "float32" and not tensors[found.outputs[0]].scale


def test_operators_between_two_programs(default_config: VTAConfig, tmp_path: Path) -> None:
    extra = (
        helper.make_node("Softmax", ["r"], ["s"], axis=1),
        helper.make_node("Conv", ["s", "w"], ["e"]),
    )
    model = tiny_model(extra=extra)
    model.graph.initializer.extend(weights(w=np.ones((4, 4, 1, 1))))
    pipeline = Pipeline(import_model(save(model, tmp_path / "m.onnx")), default_config)
    found = graph(pipeline.compile(pipeline.quantize("single_scale")))
    assert is_whole(found)
    nodes = by_operator(found)
    (softmax,) = (n for name, n in nodes.items() if "softmax" in name)
    assert softmax.place == "host" and softmax.program == ""
    makers = {n.output: n for n in found.nodes}
    assert makers[softmax.inputs[0]].operator == "dequantize"
    (reader,) = (n for n in found.nodes if softmax.output in n.inputs)
    assert reader.operator == "quantize"
    assert {n.program for n in found.nodes if n.place == "vta"} == {"vta_0", "vta_1"}


def test_a_network_on_the_host(default_config: VTAConfig, tmp_path: Path) -> None:
    pipeline = Pipeline(import_model(save(tiny_model(), tmp_path / "m.onnx")), default_config)
    found = graph(pipeline.compile(pipeline.quantize(STOCK_RELAY)))
    assert is_whole(found) and {n.place for n in found.nodes} == {"host"}
    assert "nn.conv2d" in by_operator(found)
