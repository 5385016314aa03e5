"""Activations never overlap while both live; constants are stored once."""

from __future__ import annotations

import numpy as np

from flow.compiler.memory import Constants, plan_activations
from flow.compiler.normal_form import normal_layer
from flow.compiler.planes import tensor_planes
from flow.program.layouts import Border, alignment_bytes, plane_bytes
from relay_passes.partition.layers import Layer, TensorSpec
from tests.flow.compiler.networks import conv, residual_network, subgraph
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


def test_nothing_else_ever_lies_where_a_border_is(preset: VTAConfig) -> None:
    graph = residual_network(np.random.default_rng(0))
    shapes = {"x": (1, 12, 16, 16)} | {layer.output: layer.out_shape for layer in graph.layers}
    planes = tensor_planes(graph, preset)
    layers = [normal_layer(layer, preset, planes=planes) for layer in graph.layers]
    _, plain = plan_activations(graph, layers, preset, shapes, planes)
    wide = Border(1, 1, 1, 1, -128)
    borders = {"x": wide, "first": wide, "second": wide, "added": Border(0, 1, 0, 0, -128)}
    tensors, total = plan_activations(graph, layers, preset, shapes, planes, borders)
    kept = [tensors[name] for name in ("first", "second", "added")]
    assert [t.border for t in kept] == [borders[t.name] for t in kept]
    for a in kept:
        assert a.plane_bytes == plane_bytes(a.border.around(a.shape), preset)
        for b in tensors.values():
            apart = a.address >= b.address + b.planes * b.plane_bytes or (
                b.address >= a.address + a.planes * a.plane_bytes
            )
            assert apart or a is b, (a.name, b.name)
    assert tensors["first"].address >= plain > tensors["x"].address
    ends = [t.address + t.planes * t.plane_bytes for t in kept]
    assert 0 <= total - max(ends) < alignment_bytes(preset)


def test_alike_tensors_with_borders_share_a_place(default_config: VTAConfig) -> None:
    """A chain of five, and one of another number: each lies apart from what it is made of."""
    rng, x = np.random.default_rng(0), TensorSpec(name="x", shape=(1, 16, 6, 6), dtype="int8")
    chain: list[Layer] = []
    for name in "abcdef":
        chain.append(conv(rng, name, chain[-1] if chain else x, 16, (1, 1)))
    graph = subgraph(tuple(chain), x)
    layers = [normal_layer(layer, default_config) for layer in chain]
    shapes = {"x": x.shape} | {layer.output: layer.out_shape for layer in chain}
    wide = Border(1, 1, 1, 1, -128)
    borders = dict.fromkeys("abde", wide) | {"c": wide._replace(value=-8)}
    planes = dict.fromkeys(shapes, 1)
    tensors, _ = plan_activations(graph, layers, default_config, shapes, planes, borders)
    at = {name: tensor.address for name, tensor in tensors.items()}
    assert at["a"] == at["d"] and at["b"] == at["e"]
    assert len({at["a"], at["b"], at["c"]}) == 3
