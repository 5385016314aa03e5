"""Inputs that one layer reads, and the forms in which they cost least."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flow.compiler.cost import objective_cost
from flow.compiler.input_choice import first_layers, in_forms
from flow.compiler.lower import lower
from flow.compiler.normal_form import normal_layer
from flow.compiler.shapes import Capacity
from relay_passes.partition.layers import PostOp, Subgraph, TensorSpec
from tests.flow.compiler.networks import conv, subgraph
from vta_config import VTAConfig

X = TensorSpec(name="x", shape=(1, 3, 16, 16), dtype="int8")
Y = TensorSpec(name="y", shape=(1, 16, 16, 16), dtype="int8")


def chosen(graph: Subgraph, config: VTAConfig) -> list[tuple[str, str]]:
    normal = [normal_layer(layer, config) for layer in graph.layers]
    return [(name, layer.layer.name) for name, layer in first_layers(graph, normal)]


def test_an_input_that_one_layer_convolves(default_config: VTAConfig) -> None:
    rng = np.random.default_rng(0)
    first = conv(rng, "first", X, 16, (3, 3), padding=(1, 1, 1, 1))
    assert chosen(subgraph((first,), X), default_config) == [("x", "first")]
    again = conv(rng, "again", X, 16, (3, 3), padding=(1, 1, 1, 1))
    assert chosen(subgraph((first, again), X), default_config) == []  # two read it


def test_an_input_that_is_a_residual_is_none(default_config: VTAConfig) -> None:
    rng = np.random.default_rng(0)
    skip = PostOp(op="add_tensor", value=0, tensor="y")
    layer = conv(rng, "first", X, 16, (3, 3), padding=(1, 1, 1, 1), post_ops=(skip,))
    assert chosen(subgraph((layer,), X, Y), default_config) == [("x", "first")]


def test_the_cheapest_form_is_taken(default_config: VTAConfig) -> None:
    """Three channels of sixteen: 7 x 7 windows cost less of a picture cut into phases."""
    rng = np.random.default_rng(0)
    large = replace(X, shape=(1, 3, 64, 64))
    stem = conv(rng, "stem", large, 16, (7, 7), stride=(2, 2), padding=(3, 3, 3, 3))
    capacity = Capacity.of(default_config, resident_inp=1, resident_wgt=0)
    found = in_forms(normal_layer(stem, default_config), default_config, capacity)
    assert len(found) > 1
    costs = [objective_cost(estimate, capacity) for estimate, _ in found]
    lowered = lower(subgraph((stem,), large), default_config)
    (normal,) = lowered.layers
    best = found[int(np.argmin(costs))][1]
    assert normal.layer.in_shape == best.layer.in_shape
    plain = normal_layer(stem, default_config).shape
    assert normal.shape.ic * normal.shape.taps < plain.ic * plain.taps
