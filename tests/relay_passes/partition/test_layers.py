"""Layers, their post-ops and subgraphs reject what cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from relay_passes.operators.movement import joined
from relay_passes.partition.layers import Layer, PostOp, Subgraph, TensorSpec
from vta_config.errors import UnsupportedModelError


def conv(**changes: Any) -> Layer:
    values: dict[str, Any] = {
        "name": "conv1",
        "kind": "conv2d",
        "inputs": ("x",),
        "output": "y",
        "in_shape": (1, 3, 8, 8),
        "out_shape": (1, 4, 8, 8),
        "kernel": (3, 3),
        "weight": np.zeros((4, 3, 3, 3), np.int8),
        "padding": (1, 1, 1, 1),
    }
    return Layer(**values | changes)


def test_step() -> None:
    PostOp(op="add", value=np.zeros(4, np.int32))
    with pytest.raises(UnsupportedModelError, match=r"PostOp\.op: must be among add, add_tensor, "):
        PostOp(op="xor", value=1)  # type: ignore[arg-type]
    with pytest.raises(
        UnsupportedModelError, match=r"PostOp\(add\)\.value: must be int32\[C\], got"
    ):
        PostOp(op="add", value=np.zeros(4, np.int64))
    with pytest.raises(
        UnsupportedModelError, match=r"PostOp\(min\)\.value: must be one number, got"
    ):
        PostOp(op="min", value=np.zeros(4, np.int32))
    with pytest.raises(
        UnsupportedModelError, match=r"PostOp\(shr\)\.value: must be in \[0, 31\], g"
    ):
        PostOp(op="shr", value=32)
    with pytest.raises(
        UnsupportedModelError, match=r"PostOp\(add\)\.tensor: must name a tensor for"
    ):
        PostOp(op="add", value=1, tensor="x")
    with pytest.raises(
        UnsupportedModelError, match=r"PostOp\(add_tensor\)\.tensor: must name a ten"
    ):
        PostOp(op="add_tensor", value=1)


def test_layer() -> None:
    layer = conv()
    assert layer.computed_out_shape == (1, 4, 8, 8)
    assert layer.macs == 4 * 64 * 27
    residual = PostOp(op="add_tensor", value=2, tensor="skip")
    assert conv(inputs=("x", "skip"), post_ops=(residual,)).inputs == ("x", "skip")
    assert (
        conv(
            kind="max_pool2d",
            weight=None,
            kernel=(2, 2),
            stride=(2, 2),
            padding=(0, 0, 0, 0),
            out_shape=(1, 3, 4, 4),
        ).macs
        == 0
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pad_value": -129}, r"conv1\.pad_value: must be in \[-128, 127\], got -129"),
        (
            {
                "kind": "max_pool2d",
                "weight": None,
                "out_shape": (1, 3, 8, 8),
                "pad_value": -128,
            },
            r"conv1\.pad_value: must be in \[0, 0\], got -128",
        ),
        (
            {"kind": "lstm"},
            r"conv1\.kind: must be among depthwise_conv2d, grouped_conv2d, conv2d, dense, add, m",
        ),
        ({"in_shape": (1, 3)}, r"conv1\.in_shape: must be four positive numbers, NCHW, got \(1, 3"),
        (
            {"weight": None},
            r"weight: must be given for depthwise_conv2d, grouped_conv2d, conv2d and dense only",
        ),
        (
            {"movement": joined([(1, 3, 8, 8)])},
            r"conv1\.movement: must be given for resize2d, concat and move only, got Movement",
        ),
        ({"zero_points": (0, -1)}, r"conv1\.zero_points: must be in \[0, 0\], got \(0, -1\)"),
        (
            {
                "kind": "scale_channels",
                "weight": None,
                "inputs": ("x", "s"),
                "kernel": (1, 1),
                "out_shape": (1, 3, 8, 8),
                "zero_points": (-129, 0),
            },
            r"conv1\.zero_points: must be in \[-128, 127\], got \(-129, 0\)",
        ),
        ({"kernel": (1, 1)}, r"conv1\.weight: must be int8\[4, 3, 1, 1\], got int8\[4, 3, 3, 3\]"),
        ({"stride": (2, 2)}, r"conv1\.out_shape: must be \(1, 4, 4, 4\), got \(1, 4, 8, 8\)"),
        ({"inputs": ("x", "z")}, r"conv1\.inputs: must be \('x',\), got \('x', 'z'\)"),
        ({"inputs": ()}, r"conv1\.inputs: must be at least one, got \(\)"),
        (
            {"post_ops": (PostOp(op="add", value=np.zeros(5, np.int32)),)},
            r"conv1\.post-op add: must have 4 numbers, got 5",
        ),
    ],
)
def test_layer_rejects(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnsupportedModelError, match=sentence):
        conv(**changes)


def bare(**changes: Any) -> Layer:
    values: dict[str, Any] = {"name": "down", "inputs": ("z",), "out_dtype": "int32"}
    return conv(**values | changes)


def test_summands() -> None:
    product = bare(weight=np.zeros((4, 3, 1, 1), np.int8), kernel=(1, 1), padding=(0, 0, 0, 0))
    skip = PostOp(op="add_tensor", value=2, tensor="skip")
    layer = conv(inputs=("x", "z", "skip"), summands=(product,), post_ops=(skip,))
    assert layer.macs == 4 * 64 * (27 + 3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"summands": (bare(),)}, r"conv1\.inputs: must be \('x', 'z'\), got \('x',\)"),
        (
            {"summands": (bare(out_dtype="int8"),)},
            r"conv1\.product down: must be a bare int32 accumulator, got int8",
        ),
        (
            {"summands": (bare(out_shape=(1, 4, 4, 4), stride=(2, 2)),)},
            r"conv1\.product down: must have out_shape \(1, 4, 8, 8\), got \(1, 4, 4, 4\)",
        ),
        (
            {
                "kind": "max_pool2d",
                "weight": None,
                "out_shape": (1, 3, 8, 8),
                "summands": (bare(),),
            },
            r"conv1\.product down: must be a conv2d or dense layer added to another, got conv2d a",
        ),
    ],
)
def test_summands_that_do_not_fit(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnsupportedModelError, match=sentence):
        conv(**changes)


def test_subgraph() -> None:
    data = TensorSpec(name="x", shape=(1, 3, 8, 8), dtype="int8")
    result = TensorSpec(name="y", shape=(1, 4, 8, 8), dtype="int8")
    Subgraph(symbol="vta_0", inputs=(data,), outputs=(result,), layers=(conv(),))
    with pytest.raises(UnsupportedModelError, match="vta_0: conv1: must read tensors written befo"):
        Subgraph(symbol="vta_0", inputs=(), outputs=(result,), layers=(conv(),))
    with pytest.raises(
        UnsupportedModelError, match="vta_0: conv1: must write a tensor that no other layer writes"
    ):
        Subgraph(symbol="vta_0", inputs=(data,), outputs=(), layers=(conv(), conv()))
    with pytest.raises(UnsupportedModelError, match="vta_0: y: must be written by a layer; check "):
        Subgraph(symbol="vta_0", inputs=(data,), outputs=(result,), layers=())
