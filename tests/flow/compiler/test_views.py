"""Which tensors lie within others, and in which of their blocks."""

from __future__ import annotations

import numpy as np
import pytest

from flow.compiler.views import NO_VIEWS, View, Views, views_of
from flow.program.layouts import Border
from relay_passes.operators.movement import along_axes
from relay_passes.partition.layers import Layer, TensorSpec
from tests.flow.compiler.networks import conv
from tests.flow.compiler.operators.moves import concat, graph_of, moving
from vta_config.errors import CapacityError
from vta_config.hardware import VTAConfig

X = TensorSpec(name="x", shape=(1, 16, 4, 4), dtype="int8")


def maps(*channels: int) -> list[Layer]:
    rng = np.random.default_rng(0)
    return [conv(rng, f"conv{i}", X, count, (1, 1)) for i, count in enumerate(channels)]


def found(*layers: Layer, wanted: int = 1) -> Views:
    """Return the views of a network that ends with a convolution of what the last layers make."""
    rng = np.random.default_rng(1)
    last = [conv(rng, f"last{i}", layer, 8, (1, 1)) for i, layer in enumerate(layers[-wanted:])]
    planes = dict.fromkeys(["x", *(layer.output for layer in (*layers, *last))], 1)
    graph = graph_of((*layers, *last), X, wanted=wanted)
    return views_of(graph, planes, VTAConfig.load("default"))


def taken(layer: Layer, *channels: int) -> Layer:
    movement = along_axes(layer.out_shape, {1: np.asarray(channels)})
    assert movement is not None
    return moving("taken", movement, layer)


def test_whole_blocks_side_by_side() -> None:
    a, b, c = maps(32, 16, 5)
    result = found(a, b, c, concat("both", a, b, c))
    assert result.views == {
        "conv0": View("both", 0),
        "conv1": View("both", 2),
        "conv2": View("both", 3),
    }
    assert result.written == {"both": frozenset(range(4))}


def test_what_shares_a_block_is_copied() -> None:
    a, b, c = maps(16, 20, 12)
    result = found(a, b, c, concat("both", a, b, c))
    assert result.views == {"conv0": View("both", 0)} and result.written == {"both": {0}}


def test_a_tensor_lies_in_one_other_and_inputs_in_none() -> None:
    a, b = maps(16, 16)
    first = concat("first", a, b, a)
    result = found(a, b, first, concat("second", first, b), concat("third", first), wanted=2)
    assert result.views == {
        "conv0": View("first", 0),
        "conv1": View("first", 1),
        "first": View("second", 0),
        "third": View("first", 0),
    }
    assert result.place("conv1") == View("second", 1)
    assert found(a, concat("both", a, a)).written["both"] == {0}
    graph = graph_of((concat("twice", X, X),), X)
    assert views_of(graph, {"x": 1, "twice": 1}, VTAConfig.load("default")) == NO_VIEWS


def test_slices() -> None:
    (a,) = maps(40)
    assert found(a, taken(a, *range(16, 32))).views == {"taken": View("conv0", 1)}
    assert found(a, taken(a, *range(32, 40))).views == {"taken": View("conv0", 2)}
    for channels in (range(16, 30), range(8, 24), range(0, 40, 2), [3, 2]):
        assert found(a, taken(a, *channels)) == NO_VIEWS


def test_several_images_or_planes_lie_apart() -> None:
    a, b = maps(16, 16)
    graph = graph_of((a, b, concat("both", a, b)), X)
    config = VTAConfig.load("default")
    assert views_of(graph, {"x": 1, "conv0": 1, "conv1": 2, "both": 2}, config) == NO_VIEWS


def test_borders_of_tensors_within_each_other() -> None:
    views = Views({"a": View("both", 0), "b": View("both", 1)}, {})
    border, other = Border(1, 0, 0, 0, -128), Border(0, 0, 2, 0, -128)
    joined = border.joined(other)
    assert views.bordered({"a": border, "both": other, "x": border}) == {
        "both": joined, "a": joined, "b": joined, "x": border
    }  # fmt: skip
    with pytest.raises(
        CapacityError,
        match="both: must be padded with -128, as the tensor that it lies in, got 5; "
        "give both one zero point",
    ):
        views.bordered({"a": border, "both": Border(1, 0, 0, 0, 5)})
