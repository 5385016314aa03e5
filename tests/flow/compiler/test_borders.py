"""Tensors that are padded with another number than 0 lie in DRAM with a border of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compiler.borders import border_of, tensor_borders
from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.layouts import NO_BORDER, Border
from flow.program.program import Program
from flow.sim.oracle import run_program
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from relay_passes.partition.layers import Layer, PostOp, Subgraph, TensorSpec
from tests.flow.compiler.networks import conv, max_pool, requantize, subgraph, sum_pool, weights
from tests.relay_passes.layer_oracle import run_subgraph
from vta_config.errors import CapacityError
from vta_config.hardware import VTAConfig, preset_names
from vta_config.isa import MAX_PAD, Opcode

if TYPE_CHECKING:
    from collections.abc import Sequence

X = TensorSpec(name="x", shape=(1, 20, 9, 11), dtype="int8")
SAME = {"padding": (1, 1, 1, 1)}


def outputs(layers: Sequence[Layer], *inputs: TensorSpec) -> Subgraph:
    """Return the layers as a subgraph that gives all their tensors."""
    specs = tuple(TensorSpec(name=p.output, shape=p.out_shape, dtype=p.out_dtype) for p in layers)
    return Subgraph(symbol="vta_0", inputs=inputs, outputs=specs, layers=tuple(layers))


def check(graph: Subgraph, config: VTAConfig, *, oracle: bool = False) -> Program:
    """Compare all tensors with numpy, run after run, from a file, in stream and random orders."""
    made = make_program(graph, lower(graph, config), config)
    program = Program.from_bytes(made.to_bytes())
    sim, tsim = ProgramSim(program), TSim(program)
    rng = np.random.default_rng(7)
    for order in (None, 1, None, 2):
        inputs = [
            rng.integers(spec.low, spec.high + 1, spec.shape).astype(np.int8)
            for spec in graph.inputs
        ]
        expected = run_subgraph(graph, inputs)
        results = [sim.run(inputs, seed=order), tsim.run(inputs)]
        layers = [result.layers for result in results]
        if oracle and order == 2:
            found = run_program(program, inputs)
            layers.append({r.output.name: found.layers[r.name] for r in program.layers})
            results.append(found)  # type: ignore[arg-type]  # it has outputs, too
        for tensors in layers:
            for name, tensor in tensors.items():
                np.testing.assert_array_equal(tensor, expected[name], err_msg=f"{name}, {order}")
        for result in results:
            for spec, tensor in zip(graph.outputs, result.outputs, strict=True):
                np.testing.assert_array_equal(tensor, expected[spec.name], err_msg=spec.name)
    return made


# ---- what border a layer reads ------------------------------------------------------------------
def test_the_border_is_what_is_read_of_the_padding() -> None:
    rng = np.random.default_rng(0)
    same = conv(rng, "same", X, 4, (3, 3), **SAME, pad_value=-128)
    assert border_of(same) == (1, 1, 1, 1, -128)
    # Of 9 rows and the padding, a stride of 2 leaves the last row of padding out; columns not.
    even = replace(X, shape=(1, 20, 10, 11))
    strided = conv(rng, "strided", even, 4, (3, 3), stride=(2, 2), **SAME, pad_value=-8)
    assert border_of(strided) == (1, 1, 0, 1, -8)
    assert border_of(replace(same, pad_value=0)) == NO_BORDER
    unpadded = conv(rng, "unpadded", X, 4, (3, 3), pad_value=-128)
    assert border_of(unpadded) == NO_BORDER
    assert border_of(max_pool("pool", X, 3, 2, 1)).empty


def test_readers_share_the_widest_border() -> None:
    rng = np.random.default_rng(0)
    a = conv(rng, "a", X, 4, (3, 3), **SAME, pad_value=-3)
    wide = conv(rng, "wide", a, 4, (3, 7), padding=(0, 3, 2, 3), pad_value=-128)
    tall = conv(rng, "tall", a, 4, (5, 1), padding=(2, 0, 2, 0), pad_value=-128)
    zeros = conv(rng, "zeros", a, 4, (9, 9), padding=(4, 4, 4, 4))
    graph = outputs((a, wide, tall, zeros), X)
    borders = tensor_borders(graph, ())
    assert borders == {"x": Border(1, 1, 1, 1, -3), "a": Border(2, 3, 2, 3, -128)}
    assert tensor_borders(graph, ("x",)) == {"a": Border(2, 3, 2, 3, -128)}


def test_a_tensor_has_one_border() -> None:
    rng = np.random.default_rng(0)
    a = conv(rng, "a", X, 4, (3, 3))
    b = conv(rng, "b", a, 4, (3, 3), **SAME, pad_value=-128)
    c = conv(rng, "c", a, 4, (3, 3), **SAME, pad_value=-8)
    sentence = "^c: a: must be padded with -128, as by another layer that reads it, got -8; give"
    with pytest.raises(CapacityError, match=sentence):
        lower(outputs((a, b, c), X), VTAConfig.load("default"))


# ---- programs ------------------------------------------------------------------------------------
@pytest.mark.parametrize("preset", preset_names())
def test_every_reader_of_a_tensor_with_a_border(preset: str) -> None:
    """One tensor, read by all kinds of layers: padded, as it is, flat, as a residual."""
    config, rng = VTAConfig.load(preset), np.random.default_rng(3)
    x = replace(X, shape=(config.batch + 1, *X.shape[1:]))
    a = conv(rng, "a", x, 24, (3, 3), **SAME, pad_value=-128, stride=(2, 2))
    padded = conv(rng, "padded", a, 24, (3, 3), **SAME, pad_value=-128)
    strided = conv(
        rng, "strided", a, 33, (5, 3), stride=(2, 2), padding=(2, 1, 2, 1), pad_value=-128
    )
    rows = conv(rng, "rows", a, 8, (1, 3), stride=(2, 1), padding=(2, 1, 2, 1), pad_value=-128)
    zeros = conv(rng, "zeros", a, 8, (3, 3), **SAME)
    point = conv(rng, "point", a, 8, (1, 1), stride=(2, 2))
    flat = conv(rng, "flat", a, 17, (5, 6))
    pool = max_pool("pool", a, 3, 2, 1)
    average = sum_pool("average", a, 4)
    bias, *rest = requantize(rng, 24, 11)
    skip = (bias, PostOp(op="add_tensor", value=3, tensor="a"), *rest)
    joined = conv(rng, "joined", padded, 24, (3, 3), **SAME, pad_value=-128, post_ops=skip)
    depthwise = Layer(
        name="depthwise",
        kind="depthwise_conv2d",
        inputs=("a",),
        output="depthwise",
        in_shape=a.out_shape,
        out_shape=a.out_shape,
        weight=weights(rng, 24, 1, 3, 3),
        kernel=(3, 3),
        padding=(1, 1, 1, 1),
        pad_value=-128,
        post_ops=requantize(rng, 24, 8),
    )
    added = Layer(
        name="added",
        kind="add",
        inputs=("a", "depthwise"),
        output="added",
        in_shape=a.out_shape,
        out_shape=a.out_shape,
        weight=None,
        post_ops=(
            PostOp(op="add_tensor", value=1, tensor="a"),
            PostOp(op="add_tensor", value=0, tensor="depthwise"),
            PostOp(op="shr", value=2),
        ),
    )
    layers = (
        a, padded, strided, rows, zeros, point, flat, pool, average, joined, depthwise, added,
    )  # fmt: skip
    program = check(outputs(layers, x), config, oracle=preset in ("default", "w4a4"))
    assert {fill.size_bytes > 0 for fill in program.fills} == {True}


@pytest.mark.parametrize("preset", ["default", "block32", "w4", "w4a4"])
def test_a_pool_inside_a_convolution_beside_borders(preset: str) -> None:
    """It reads a border, or writes into one; the tensor between them lies nowhere."""
    config, rng = VTAConfig.load(preset), np.random.default_rng(5)
    x = replace(X, shape=(1, 3, 22, 20))
    stem = conv(rng, "stem", x, 24, (7, 7), stride=(2, 2), padding=(3, 3, 3, 3), pad_value=-77)
    pool = max_pool("pool", stem, 3, 2, 1)
    second = conv(rng, "second", pool, 24, (3, 3), **SAME, pad_value=-128)
    below = max_pool("below", second, 2, 2)
    third = conv(rng, "third", below, 24, (3, 3), **SAME, pad_value=-128)
    program = check(subgraph((stem, pool, second, below, third), x), config)
    kinds = [record.kind for record in program.layers]
    assert kinds == ["conv2d+max_pool2d", "conv2d+max_pool2d", "conv2d"]


@pytest.mark.parametrize("preset", ["default", "w4a4"])
def test_summands_read_borders_of_their_own(preset: str) -> None:
    rng = np.random.default_rng(5)
    a = conv(rng, "a", X, 24, (1, 1))
    b = conv(rng, "b", X, 8, (1, 1))
    product = conv(
        rng, "p", b, 24, (5, 5), padding=(2, 2, 2, 2), pad_value=-5, post_ops=(), out_dtype="int32"
    )
    both = conv(rng, "both", a, 24, (3, 3), **SAME, pad_value=-128, summands=(product,))
    check(subgraph((a, b, both), X), VTAConfig.load(preset))


def test_padding_by_a_border_has_no_limit_of_its_own() -> None:
    """LOAD makes at most 15 zeros at an edge; a border is not made."""
    rng, wide = np.random.default_rng(5), MAX_PAD + 2
    a = conv(rng, "a", X, 8, (1, 1))
    b = conv(rng, "b", a, 8, (3, 3), padding=(wide, 1, 1, wide), pad_value=-128)
    check(subgraph((a, b), X), VTAConfig.load("default"))


def test_loads_of_a_border_pad_nothing() -> None:
    rng = np.random.default_rng(5)
    a = conv(rng, "a", X, 24, (3, 3), **SAME, pad_value=-1)
    b = conv(rng, "b", a, 24, (3, 3), **SAME, pad_value=-1)
    graph = subgraph((a, b), X)
    program = make_program(
        graph, lower(graph, VTAConfig.load("default")), VTAConfig.load("default")
    )
    for insn in program.insns:
        if insn.opcode == Opcode.LOAD:
            assert not any(insn[f"{axis}_pad_{side}"] for axis in "xy" for side in "01")


def test_tensors_with_the_same_border_share_their_places() -> None:
    """Six tensors of one shape need two places: what is read, and what is written."""
    rng = np.random.default_rng(5)
    layers: list[Layer] = []
    for index in range(6):
        source = layers[-1] if layers else X
        layers.append(conv(rng, f"c{index}", source, 16, (3, 3), **SAME, pad_value=-128))
    program = check(subgraph(tuple(layers), X), VTAConfig.load("default"))
    addresses = Counter(record.output.address for record in program.layers[:-1])
    assert sorted(addresses.values()) == [2, 3]
    bytes_each = 16 * 11 * 13
    assert [(f.size_bytes, f.byte) for f in program.fills] == [(bytes_each, 128)] * 2
    # The last tensor has no reader, so no border.
    assert program.outputs[0].form is None


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_padding_with_any_number(data: st.DataObject) -> None:
    """A tensor and two convolutions of it, each padded, or not, with zeros or another number."""
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    config = VTAConfig.load(draw(st.sampled_from(preset_names())))
    number = draw(st.sampled_from([-128, -8, -1, 3, 127]))
    sizes = st.integers(1, 12)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 40)), draw(sizes), draw(sizes))
    x = TensorSpec(name="x", shape=shape, dtype="int8")

    def padded(name: str, source: Layer | TensorSpec) -> Layer:
        size = source.shape if isinstance(source, TensorSpec) else source.out_shape
        kernel = [draw(st.integers(1, 4)) for _ in range(2)]
        dilation = [draw(st.integers(1, 2)) for _ in range(2)]
        padding = [0] * 4
        for axis in (0, 1):
            reach = (kernel[axis] - 1) * dilation[axis]
            before = draw(st.integers(0, reach))
            least = max(0, reach + 1 - size[2 + axis] - before)
            padding[axis], padding[axis + 2] = before, draw(st.integers(least, max(least, reach)))
        options: dict[str, Any] = {
            "stride": (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
            "dilation": tuple(dilation),
            "padding": tuple(padding),
            "pad_value": draw(st.sampled_from([0, number, number])),
        }
        channels = draw(st.integers(1, 40))
        post_ops = requantize(rng, channels, draw(st.integers(4, 14)), relu=draw(st.booleans()))
        return conv(rng, name, source, channels, tuple(kernel), post_ops=post_ops, **options)

    a = padded("a", x)
    check(outputs((a, padded("b", a), padded("c", a)), x), config)
