"""Moves of one tensor start layers that copy what Relax copies; others stay on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.relax import op

from relay_passes.graph import read_graph
from relay_passes.operators.move import OPERATOR
from relay_passes.operators.operator import Window
from relay_passes.partition.find_layers import ChainFinder
from tests.relay_passes.partition.integers import Int8, check_meaning, refused
from vta_config.hardware import VTAConfig


def indices(*values: int) -> Any:
    return relax.const(np.asarray(values, np.int64))


def resize(x: Any, size: tuple[int, int], **options: Any) -> Any:
    form = {"method": "nearest_neighbor", "coordinate_transformation_mode": "asymmetric"}
    return op.image.resize2d(x, size, **{**form, "rounding_method": "floor", **options})


def rearrange(t: Int8, x: Any, views: tuple[int, ...], axes: list[int], *after: int) -> Any:
    return op.reshape(t.emit(op.permute_dims(t.emit(op.reshape(x, views)), axes)), after)


MOVES: list[Callable[[Int8, Any], Any]] = [
    lambda t, x: op.strided_slice(x, [1, 3], [2, 5], [4, 0], [1, -2]),
    lambda t, x: op.take(x, indices(3, -1, 0, 3), axis=1, mode="wrap"),
    lambda t, x: op.nn.pad(x, [0, 0, 0, 0, 1, 2, 0, 3], pad_value=-128.0),
    lambda t, x: op.nn.pad(x, [0, 0, 1, 2, 0, 0, 0, 0], pad_value=0.0),
    lambda t, x: op.nn.pad(x, [0, 0, 0, 0, 2, 2, 1, 3], pad_mode="reflect"),
    lambda t, x: op.nn.pad(x, [0, 0, 0, 0, 2, 2, 1, 3], pad_mode="replicate"),
    lambda t, x: op.nn.pad(x, [0, 0, 0, 0, 2, 2, 1, 3], pad_mode="circular"),
    lambda t, x: resize(x, (12, 18)),
    lambda t, x: resize(
        x, (18, 6), coordinate_transformation_mode="half_pixel", rounding_method="round"
    ),
    lambda t, x: op.nn.pad(x, [0, 0, 0, 0, 9, 0, 7, 8], pad_mode="replicate"),
    lambda t, x: op.nn.pad(x, [0, 0, 0, 0, 6, 6, 6, 0], pad_mode="circular"),
    lambda t, x: resize(x, (9, 3)),
    lambda t, x: resize(x, (12, 7), coordinate_transformation_mode="align_corners"),
    lambda t, x: resize(
        x, (4, 13), coordinate_transformation_mode="half_pixel", rounding_method="ceil"
    ),
    lambda t, x: rearrange(t, x, (1, 2, 2, 6, 6), [0, 2, 1, 3, 4], 1, 4, 6, 6),
    lambda t, x: rearrange(t, x, (1, 1, 2, 2, 6, 6), [0, 1, 4, 2, 5, 3], 1, 1, 12, 12),
    lambda t, x: rearrange(t, x, (1, 4, 3, 2, 3, 2), [0, 3, 5, 1, 2, 4], 1, 16, 3, 3),
]


@pytest.mark.parametrize("move", MOVES)
def test_a_move_copies_what_relax_copies(
    move: Callable[[Int8, Any], Any], default_config: VTAConfig
) -> None:
    t = Int8()
    moved = t.emit(move(t, t.small(t.conv(t.data))))
    mod = t.module(t.conv(moved))
    assert refused(mod, default_config) == []
    layers = check_meaning(mod, default_config)
    assert [layer.kind for layer in layers][:2] == ["conv2d", "move"] or layers[-1].padding
    assert OPERATOR.read(moved, (1, 4, 6, 6)) == ("move", Window(), None)


OTHERS: list[Callable[[Int8, Any], Any]] = [
    lambda t, x: op.strided_slice(x, [0], [0], [1], [1]),
    lambda t, x: op.take(x, indices(0), axis=0, mode="clip"),
    lambda t, x: op.take(x, t.emit(op.astype(t.emit(op.max(x, axis=[0, 1, 2])), "int64")), axis=1,
                         mode="clip"),
    lambda t, x: op.nn.pad(x, [0, 0, 0, 0, 1, 2, 0, 3], pad_value=0.5),
    lambda t, x: op.nn.pad(x, [1, 0, 0, 0, 1, 2, 0, 3]),
    lambda t, x: op.nn.pad(x, [0, 0, 0, 0, -1, 2, 0, 3]),
    lambda t, x: resize(x, (12, 12), method="linear"),
    lambda t, x: resize(x, (9, 6), coordinate_transformation_mode="tf_half_pixel_for_nn"),
    lambda t, x: rearrange(t, x, (1, 4, 36), [0, 2, 1], 1, 4, 6, 6),
    lambda t, x: op.reshape(x, (2, 2, 6, 6)),
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_other_calls_start_no_layer(other: Callable[[Int8, Any], Any]) -> None:
    t = Int8((2, 4, 6, 6)) if other is OTHERS[0] else Int8()
    mod = t.module(t.conv(t.emit(other(t, t.data)), 4))
    assert "move" not in {chain.kind for chain in ChainFinder(read_graph(mod)).all()}


def test_a_view_is_a_layer_only_between_layers(default_config: VTAConfig) -> None:
    t = Int8((1, 4, 1, 1))
    first = t.small(t.conv(t.data))
    flat = t.emit(op.reshape(first, (1, 4)))
    weight = relax.const(np.ones((4, 3), np.int8))
    heads = [t.emit(op.matmul(flat, weight, out_dtype="int32")) for _ in range(2)]
    layers = check_meaning(t.module(*heads), default_config)
    assert [layer.kind for layer in layers] == ["conv2d", "move", "dense", "dense"]
    assert layers[1].movement is not None and layers[1].movement.is_view
    t = Int8((1, 4, 1, 1))
    mod = t.module(t.emit(op.reshape(t.small(t.conv(t.data)), (1, 4))))
    assert [chain.kind for chain in ChainFinder(read_graph(mod)).all()] == ["conv2d"]


def test_channels_of_another_number(default_config: VTAConfig) -> None:
    t = Int8()
    padded = t.emit(op.nn.pad(t.data, [0, 0, 1, 2, 0, 0, 0, 0], pad_value=-128.0))
    assert refused(t.module(t.conv(padded)), default_config) == [
        ("nn.pad", "channels that are added must hold 0, or be whole blocks of channels")
    ]
