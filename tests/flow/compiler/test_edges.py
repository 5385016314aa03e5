"""Padding that is not zero, without a border in DRAM: constants of the outputs that lack taps."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from flow.compiler import edges
from flow.compiler.bias import RegisterOp
from flow.compiler.edges import edges_of, rectangles_of
from flow.compiler.lower import Lowering
from flow.compiler.normal_form import normal_layer
from relay_passes.partition.layers import Layer, PostOp, TensorSpec
from tests.flow.compiler.networks import conv, requantize, subgraph, weights
from tests.flow.compiler.test_borders import check, outputs
from vta_config.hardware import VTAConfig
from vta_config.isa import Opcode
from vta_config.origin import Purpose

X = TensorSpec(name="x", shape=(1, 240, 9, 8), dtype="int8")
SAME = {"padding": (1, 1, 1, 1)}
#: More than two GEMM steps add: the ALU adds it.
LARGE = (
    PostOp(op="add", value=np.arange(40, dtype=np.int32) * 90_001 - 2_000_000),
    PostOp(op="shr", value=14),
    PostOp(op="max", value=-128),
    PostOp(op="min", value=127),
)


def layer(**options: Any) -> Layer:
    kernel, source = options.pop("kernel", (3, 3)), options.pop("source", X)
    values = {**SAME, "pad_value": -128, **options}
    made = conv(np.random.default_rng(3), "conv", source, 40, kernel, **values)
    assert made.weight is not None
    return replace(made, weight=made.weight // 8 + 1)  # their sums fit one step


def added(found: Any, of: Layer) -> np.ndarray[Any, Any]:
    """Return the sum of all edges' constants, int64[lanes, OH, OW]."""
    total = np.zeros((len(found[0].values), *of.out_shape[2:]), np.int64)
    for edge in found:
        rows = slice(edge.rows.start, sum(edge.rows))
        columns = slice(edge.columns.start, sum(edge.columns))
        total[:, rows, columns] += edge.values[:, None, None]
    return total


def lacking(of: Layer) -> np.ndarray[Any, Any]:
    """Return what taps on the padding add, one by one."""
    assert of.weight is not None
    total = np.zeros(of.out_shape[1:], np.int64)
    for y, x in product(*map(range, of.out_shape[2:])):
        for ky, kx in product(*map(range, of.kernel)):
            row = y * of.stride[0] - of.padding[0] + ky * of.dilation[0]
            column = x * of.stride[1] - of.padding[1] + kx * of.dilation[1]
            if not (0 <= row < of.in_shape[2] and 0 <= column < of.in_shape[3]):
                total[:, y, x] += of.pad_value * of.weight[:, :, ky, kx].astype(np.int64).sum(1)
    return total


SHAPES: list[dict[str, Any]] = [
    {},
    {"stride": (2, 2)},
    {"kernel": (5, 3), "padding": (2, 1, 2, 1)},
    {"padding": (0, 1, 1, 0), "pad_value": 5},
    {"dilation": (2, 3), "padding": (2, 3, 2, 3)},
    {"kernel": (3, 2), "padding": (4, 3, 2, 3)},
]


@pytest.mark.parametrize("options", SHAPES)
def test_what_edges_add_is_what_the_padding_would(
    options: dict[str, Any], default_config: VTAConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edges, "EDGES_SHARE", 1)
    monkeypatch.setattr(edges, "HELD_BLOCKS", 1)
    of = layer(**options)
    shape = normal_layer(replace(of, pad_value=0), default_config).shape
    by_gemm = edges_of(of, shape, default_config)
    by_alu = rectangles_of(of, shape, default_config)
    assert by_gemm and by_alu
    for found in (by_gemm, by_alu):
        np.testing.assert_array_equal(added(found, of)[:40], lacking(of))
    # Rectangles fill the picture.
    assert sum(edge.vectors for edge in by_alu) == np.prod(of.out_shape[2:])


def test_when_a_border_is_better(default_config: VTAConfig) -> None:
    def both(of: Layer) -> list[Any]:
        shape = normal_layer(replace(of, pad_value=0), default_config).shape
        return [
            edges_of(of, shape, default_config),
            rectangles_of(of, shape, default_config),
        ]

    few = TensorSpec(name="x", shape=(1, 16, 3, 3), dtype="int8")
    assert both(layer(source=few)) == [None, None]
    assert both(layer(pad_value=0)) == [None, None]
    # Constants that would fill too much of wgt, or of acc.
    many = layer(kernel=(7, 7), padding=(3, 3, 3, 3))
    assert both(many) == [None, None]
    narrow = VTAConfig.load("w4")
    shape = normal_layer(layer(pad_value=0), narrow).shape
    assert edges_of(layer(), shape, narrow) is None


@pytest.mark.parametrize("preset", ["default", "small", "block32", "ultra96"])
@pytest.mark.parametrize("options", SHAPES)
def test_programs_without_a_border(options: dict[str, Any], preset: str) -> None:
    """Constants of GEMM and of the ALU, in one tile and in several, before other layers."""
    config = VTAConfig.load(preset)
    x = replace(X, shape=(config.batch, *X.shape[1:]))
    first = layer(source=x, **options)
    large = replace(first, name="large", output="large", post_ops=LARGE)
    rng = np.random.default_rng(1)
    last = conv(rng, "last", large, 24, (1, 1))
    program = check(outputs((first, large, last), x), config)
    if preset == "default":
        assert not program.fills
        (load,) = (i for i in program.insns if i.opcode == Opcode.LOAD and i["memory_type"] == 3)
        assert load.origin.purpose == Purpose.REQUANTIZE


def test_more_constants_than_acc_holds() -> None:
    """Of 32 blocks with nine constants each, those of a tile are loaded, also for its pieces."""
    config, rng = VTAConfig.load("default"), np.random.default_rng(2)
    bias = PostOp(op="add", value=np.arange(512, dtype=np.int32) * 9_001 - 2_000_000)
    wide = conv(rng, "wide", X, 512, (3, 3), **SAME, pad_value=-128, post_ops=(bias, *LARGE[1:]))
    (normal,) = Lowering(subgraph((wide,), X), config).layers
    (step,) = (e for e in normal.epilogue if isinstance(e, RegisterOp))
    assert step.each == 9 and len(step.values) == 9 * 32 > config.acc_depth // 16
    program = check(subgraph((wide,), X), config)
    loads = [i for i in program.insns if i.opcode == Opcode.LOAD and i["memory_type"] == 3]
    sizes = [load["x_size"] for load in loads]
    assert sum(sizes) == 9 * 32 and max(sizes) <= config.acc_depth // 16


@pytest.mark.parametrize("kind", ["depthwise_conv2d", "grouped_conv2d"])
def test_kinds_of_convolutions(kind: str) -> None:
    rng, x = np.random.default_rng(3), TensorSpec(name="x", shape=(1, 48, 30, 28), dtype="int8")
    each = 1 if kind == "depthwise_conv2d" else 16
    of = Layer(
        name="conv",
        kind=kind,
        inputs=("x",),
        output="conv",
        in_shape=x.shape,
        out_shape=x.shape,
        weight=weights(rng, 48, each, 3, 3),
        kernel=(3, 3),
        padding=(1, 1, 1, 1),
        pad_value=-128,
        post_ops=requantize(rng, 48, 8),
    )
    config = VTAConfig.load("default")
    (normal,) = Lowering(subgraph((of,), x), config).layers
    assert normal.edges and normal.border.empty
    check(subgraph((of,), x), config)
