"""Activations never overlap while both live; constants are stored once."""

from __future__ import annotations

import numpy as np

from flow.compiler.memory import Constants, plan_activations
from flow.compiler.normal_form import normal_layer
from flow.compiler.planes import tensor_planes
from flow.program.layouts import alignment_bytes
from tests.flow.compiler.networks import residual_network
from vta_config.hardware import VTAConfig


def test_tensors_that_live_together_lie_apart(preset: VTAConfig) -> None:
    graph = residual_network(np.random.default_rng(0))
    shapes = {"x": (1, 12, 16, 16)} | {layer.output: layer.out_shape for layer in graph.layers}
    planes = tensor_planes(graph, preset)
    layers = [normal_layer(layer, preset, planes=planes) for layer in graph.layers]
    tensors, total = plan_activations(graph, layers, preset, shapes, planes)
    last_read = {layer.output: i for i, layer in enumerate(graph.layers)}
    last_read |= {name: i for i, layer in enumerate(graph.layers) for name in layer.inputs}
    last_read["dense"] = len(graph.layers)
    born = {"x": -1} | {layer.output: i for i, layer in enumerate(graph.layers)}
    for a in tensors.values():
        assert a.address % alignment_bytes(preset) == 0
        end = a.address + a.planes * a.plane_bytes
        assert end <= total
        for b in tensors.values():
            together = born[a.name] <= last_read[b.name] and born[b.name] <= last_read[a.name]
            if a is not b and together:
                assert end <= b.address or b.address + b.planes * b.plane_bytes <= a.address
    assert total < sum(t.planes * t.plane_bytes for t in tensors.values())


def test_equal_constants_are_stored_once() -> None:
    constants = Constants(256, 4096)
    one = constants.add(np.arange(10, dtype=np.int8))
    assert one == 4096
    assert constants.add(np.arange(11, dtype=np.int8)) == 4096 + 256
    assert constants.add(np.arange(10, dtype=np.int8)) == one
    assert constants.size_bytes == len(constants.data()) == 512
