"""Lowered programs compute what the layers mean, on every machine and in any legal order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from flow.compiler.cost import PIECE_VECTORS, Tiling
from flow.compiler.emit import Tile
from flow.compiler.geometry import Range
from flow.compiler.link import make_program
from flow.compiler.lower import Lowering, lower
from flow.compiler.schedule import Schedule
from flow.compiler.tiling import extents
from flow.machines.axes import varied
from flow.program.program import Program
from flow.sim.oracle import run_program
from flow.sim.program_sim import ProgramSim
from relay_passes.operators.post_ops import POST_OPS
from relay_passes.partition.layers import PostOp, Subgraph, TensorSpec
from tests.flow.compiler.networks import (
    conv,
    max_pool,
    requantize,
    residual_network,
    subgraph,
    sum_pool,
    weights,
)
from tests.relay_passes.layer_oracle import run_subgraph
from vta_config.errors import CapacityError, UnsupportedModelError
from vta_config.hardware import VTAConfig, preset_names
from vta_config.isa import AluOp, Memory, Module, Opcode
from vta_config.origin import Origin, Purpose
from vta_config.portable import constant_reach


def compiled(graph: Subgraph, preset: str = "default", schedule: Schedule | None = None) -> Program:
    config = VTAConfig.load(preset)
    return make_program(graph, lower(graph, config, schedule), config)


def check(
    graph: Subgraph, preset: str = "default", *, seed: int = 0, schedule: Schedule | None = None
) -> Program:
    """Compare every layer's tensor with numpy, in stream order and in random legal orders."""
    rng = np.random.default_rng(seed)
    inputs = {spec.name: weights(rng, *spec.shape) for spec in graph.inputs}
    expected = run_subgraph(graph, list(inputs.values()))
    program = compiled(graph, preset, schedule)
    sim = ProgramSim(program)
    for order in (None, seed + 1, seed + 2):
        result = sim.run(list(inputs.values()), seed=order)
        for name, tensor in result.layers.items():
            np.testing.assert_array_equal(tensor, expected[name], err_msg=f"{name}, order {order}")
    return program


@pytest.mark.parametrize("preset", preset_names())
def test_every_kind_of_layer_on_every_machine(preset: str) -> None:
    check(residual_network(np.random.default_rng(1)), preset)


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("name", POST_OPS)
def test_every_post_op_on_every_machine(name: str, preset: str) -> None:
    """Each alone, after a shift, so that no constant or residual is merged into the sums."""
    rng, tensor = np.random.default_rng(4), "x" if POST_OPS[name].residual else ""
    x = TensorSpec(name="x", shape=(VTAConfig.load(preset).batch, 32, 5, 5), dtype="int8")
    post_ops = (PostOp(op="shr", value=2), PostOp(op=name, value=3, tensor=tensor))
    layer = conv(rng, "conv", x, 32, (1, 1), post_ops=post_ops, out_dtype="int32")
    check(subgraph((layer,), x), preset)


@pytest.mark.parametrize("log_acc_buff_bytes", [13, 14, 15])
def test_acc_that_is_shallower_than_inp(log_acc_buff_bytes: int) -> None:
    """Micro-ops' src then counts more inp elements than acc has, which no ALU may name."""
    config = replace(VTAConfig.load("default"), log_acc_buff_bytes=log_acc_buff_bytes)
    graph = residual_network(np.random.default_rng(1))
    program = make_program(graph, lower(graph, config), config)
    x = [weights(np.random.default_rng(3), *spec.shape) for spec in graph.inputs]
    expected = run_subgraph(graph, x)
    layers = ProgramSim(program).run(x).layers
    for name, tensor in layers.items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)


def test_the_oracle_agrees() -> None:
    graph = residual_network(np.random.default_rng(2), size=16)
    x = weights(np.random.default_rng(3), 1, 3, 16, 16)
    expected = run_subgraph(graph, [x])
    program = compiled(graph)
    layers = run_program(program, [x]).layers
    for record in program.layers:
        np.testing.assert_array_equal(layers[record.name], expected[record.output.name])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_convolution(data: st.DataObject) -> None:
    draw = data.draw
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(draw(st.integers(0, reach[axis])) for axis in (0, 1, 0, 1))
    size = [draw(st.integers(reach[axis] + 1, 24)) for axis in (0, 1)]
    channels = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    x = TensorSpec(name="x", shape=(1, channels[0], *size), dtype="int8")
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    layer = conv(
        rng,
        "conv",
        x,
        channels[1],
        kernel,
        stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=padding,
        dilation=dilation,
        post_ops=requantize(rng, channels[1], draw(st.integers(1, 20)), relu=draw(st.booleans())),
    )
    check(subgraph((layer,), x), draw(st.sampled_from(preset_names())))


@st.composite
def windows(draw: st.DrawFn, out: tuple[int, int]) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Draw a window, and a size of the input from which it makes `out` rows and columns."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding, size = [], []
    for axis in (0, 1):
        reach = (kernel[axis] - 1) * dilation[axis]
        extent = (out[axis] - 1) * stride[axis] + reach + 1
        before, after = (draw(st.integers(0, min(reach, 3))) for _ in range(2))
        before = min(before, extent - 1)
        after = min(after, extent - before - 1)
        padding.append((before, after))
        size.append(extent - before - after + draw(st.integers(0, stride[axis] - 1)))
    (top, bottom), (left, right) = padding
    window = {"kernel": kernel, "stride": stride, "dilation": dilation}
    return window | {"padding": (top, left, bottom, right)}, tuple(size)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_summands_in_one_accumulator(data: st.DataObject) -> None:
    draw = data.draw
    out = draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    channels = draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    inputs, bare = [], []
    for index in range(draw(st.integers(2, 3))):
        window, size = draw(windows(out))
        shape = (1, draw(st.integers(1, 70)), *size)
        inputs.append(TensorSpec(name=f"x{index}", shape=shape, dtype="int8"))
        bare.append(
            conv(
                rng,
                f"conv{index}",
                inputs[-1],
                channels,
                post_ops=(),
                out_dtype="int32",
                **window,
            )
        )
    steps = requantize(rng, channels, draw(st.integers(8, 20)), relu=draw(st.booleans()))
    if draw(st.booleans()):
        inputs.append(TensorSpec(name="skip", shape=bare[0].out_shape, dtype="int8"))
        steps = (PostOp(op="add_tensor", value=draw(st.integers(0, 8)), tensor="skip"), *steps)
    first, *summands = bare
    layer = replace(
        first,
        inputs=tuple(spec.name for spec in inputs),
        post_ops=steps,
        out_dtype="int8",
        summands=tuple(summands),
    )
    graph = subgraph((layer,), *inputs)
    preset = draw(st.sampled_from(preset_names()))
    schedule = None
    if draw(st.booleans()):
        schedule = Schedule(tilings={"conv0": any_tiling(draw, graph, preset)}, forms={})
    (record,) = check(graph, preset, schedule=schedule).layers
    assert record.kind == "+".join(["conv2d"] * len(bare))


def any_tiling(draw: st.DrawFn, graph: Subgraph, preset: str) -> Tiling:
    """Draw a tiling of a graph's first layer that fits its plain input, fast or not."""
    lowering = Lowering(graph, VTAConfig.load(preset), Schedule(forms={}))
    shape, capacity = lowering.layers[0].shape, lowering.residents.capacity_of(lowering.layers[0])
    oc = draw(st.sampled_from(extents(shape.oc)))
    tiling = Tiling(
        oc=oc,
        oh=draw(st.sampled_from(extents(shape.out_height))),
        ow=draw(st.sampled_from(extents(shape.out_width))),
        ic=draw(st.sampled_from(extents(shape.ic))),
        oc_w=draw(st.sampled_from(extents(oc))),
        oc_outer=draw(st.booleans()),
    )
    assume(tiling.acc_elems <= capacity.acc)
    assume(tiling.inp_elems(shape) <= tiling.inp_capacity(shape, capacity))
    assume(tiling.wgt_elems(shape) <= capacity.wgt)
    return tiling


@pytest.mark.parametrize(("padding", "columns"), [(0, 1), (0, 3), (1, 1), (2, 3), (4, 1)])
def test_rows_that_are_never_read(padding: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 20, 13, 12), dtype="int8")
    around = (padding, columns // 2) * 2
    layer = conv(rng, "conv", x, 40, (1, columns), stride=(2, 2), padding=around)
    program = check(subgraph((layer,), x), schedule=Schedule(forms={}))
    strides = {
        insn["x_stride"]
        for insn in program.insns
        if insn.opcode == Opcode.LOAD
        and insn["memory_type"] == Memory.INP
        and insn.origin.layer == "conv"
    }
    assert strides == {12 if padding % 2 else 24}


def test_a_strided_product_joins_no_pool_and_its_convolution_may() -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 20, 24, 24), dtype="int8")
    wide = conv(rng, "wide", x, 20, (1, 1), stride=(2, 2))
    other = conv(rng, "other", x, 20, (1, 1), stride=(2, 2), post_ops=(), out_dtype="int32")
    both = replace(wide, inputs=("x", "x"), summands=(other,))
    pool = max_pool("pool", wide, 2, 2)
    for layer, kinds in ((wide, ["conv2d+max_pool2d"]), (both, ["conv2d+conv2d", "max_pool2d"])):
        program = check(subgraph((layer, pool), x))
        assert [record.kind for record in program.layers] == kinds


def test_a_padded_window_as_wide_as_the_picture() -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 1, 1, 2), dtype="int8")
    check(subgraph((conv(rng, "conv", x, 13, (1, 2), stride=(1, 2), padding=(0, 1, 0, 0)),), x))


@settings(max_examples=20, deadline=None)
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    size=st.integers(4, 30),
    channels=st.integers(1, 40),
    preset=st.sampled_from(preset_names()),
)
def test_any_max_pool(
    kernel: int, stride: int, dilation: int, size: int, channels: int, preset: str
) -> None:
    reach, padding = (kernel - 1) * dilation, (kernel - 1) // 2 * dilation
    out = (size + 2 * padding - reach - 1) // stride + 1
    assume(out > 0)
    x = TensorSpec(name="x", shape=(1, channels, size, size), dtype="int8")
    layer = max_pool("pool", x, kernel, stride, padding, dilation)
    check(subgraph((layer,), x), preset)


@settings(max_examples=30, deadline=None)
@given(
    window=st.sampled_from([(2, 2, 0), (3, 2, 1), (3, 2, 0), (3, 3, 1), (2, 2, 1), (4, 3, 1)]),
    size=st.tuples(st.integers(6, 40), st.integers(6, 40)),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 70)),
    kernel=st.sampled_from([1, 3]),
    preset=st.sampled_from(preset_names()),
    relu=st.booleans(),
)
@example((3, 3, 1), (14, 14), (11, 1), 3, "small", False)  # one tile: all but one element of inp
def test_a_pool_joins_its_convolution(
    window: tuple[int, int, int],
    size: tuple[int, int],
    channels: tuple[int, int],
    kernel: int,
    preset: str,
    relu: bool,
) -> None:
    pool, stride, padding = window
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, channels[0], *size), dtype="int8")
    edge = kernel // 2
    steps = requantize(rng, channels[1], 9, relu=relu)
    wide = conv(rng, "wide", x, channels[1], (kernel, kernel), padding=(edge,) * 4, post_ops=steps)
    out = tuple((s + 2 * padding - pool) // stride + 1 for s in size)
    assume(all((o - 1) * stride < s for o, s in zip(out, size, strict=True)))
    narrow = max_pool("narrow", wide, pool, stride, padding)
    program = check(subgraph((wide, narrow), x), preset)
    one_tap = sum((t - padding) % stride == 0 for t in range(pool)) == 1
    assert [r.kind for r in program.layers] == (
        ["conv2d+max_pool2d"] if one_tap else ["conv2d", "max_pool2d"]
    )


def test_constants_join_the_maxima() -> None:
    rng = np.random.default_rng(5)
    x = TensorSpec(name="x", shape=(1, 8, 12, 12), dtype="int8")
    reach = constant_reach(16)
    bias = rng.integers(-2 * reach, 2 * reach - (1 << 14), 70).astype(np.int32)
    steps = (PostOp(op="add", value=bias), *requantize(rng, 70, 14)[1:])
    wide = conv(rng, "wide", x, 70, (3, 3), padding=(1, 1, 1, 1), post_ops=steps)
    narrow = max_pool("narrow", wide, 3, 2, 1)
    program = check(subgraph((wide, narrow), x))
    bias_steps = [
        insn["iter_out"] * insn["iter_in"] * (insn["uop_end"] - insn["uop_begin"])
        for insn in program.insns
        if insn.opcode == Opcode.GEMM and insn.origin.purpose == Purpose.BIAS
    ]
    assert sum(bias_steps) == 2 * 5 * 6 * 6  # digits, blocks of channels, the pool's outputs


@pytest.mark.parametrize(("channels", "joined"), [(256, True), (512, False)])
def test_constants_that_would_fill_wgt_stay_before_the_pool(channels: int, joined: bool) -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 32, 6, 6), dtype="int8")
    steps = (PostOp(op="add", value=2000), *requantize(rng, channels, 12)[2:])
    wide = conv(rng, "wide", x, channels, (3, 3), padding=(1, 1, 1, 1), post_ops=steps)
    program = check(subgraph((wide, max_pool("narrow", wide, 2, 2, 0)), x), "small")
    kinds = ["conv2d+max_pool2d"] if joined else ["conv2d", "max_pool2d"]
    assert [record.kind for record in program.layers] == kinds


@pytest.mark.parametrize("shift", [0, 3, 6, 7, 10])
def test_residual_shifts(shift: int) -> None:
    rng = np.random.default_rng(shift)
    x = TensorSpec(name="x", shape=(1, 16, 6, 6), dtype="int8")
    bias, *rest = requantize(rng, 16, 12)
    steps = (bias, PostOp(op="add_tensor", value=shift, tensor="x"), *rest)
    check(subgraph((conv(rng, "conv", x, 16, (1, 1), post_ops=steps),), x))


def test_a_residual_after_a_shift() -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 16, 6, 6), dtype="int8")
    clip = (PostOp(op="max", value=-127), PostOp(op="min", value=127))
    late = (PostOp(op="add_tensor", value=2, tensor="x"), PostOp(op="shr", value=2), *clip)
    layer = conv(rng, "conv", x, 16, (3, 3), post_ops=(*requantize(rng, 16, 9), *late))
    with pytest.raises(UnsupportedModelError, match="out_shape"):
        conv(rng, "bad", x, 16, (3, 3), post_ops=layer.post_ops).__class__(
            **{f: getattr(layer, f) for f in ("name", "kind", "inputs", "output", "in_shape")},
            out_shape=(1, 16, 9, 9),
            weight=layer.weight,
            kernel=(3, 3),
        )
    padded = conv(rng, "conv", x, 16, (3, 3), padding=(1, 1, 1, 1), post_ops=layer.post_ops)
    check(subgraph((padded,), x))


def test_two_residuals_after_shifts() -> None:
    rng = np.random.default_rng(0)
    x, y = (TensorSpec(name=name, shape=(1, 40, 9, 9), dtype="int8") for name in "xy")
    clip = (PostOp(op="max", value=-127), PostOp(op="min", value=127))
    added = tuple(PostOp(op="add_tensor", value=2, tensor=name) for name in "yx")
    late = (added[0], PostOp(op="shr", value=1), added[1], PostOp(op="shr", value=2), *clip)
    steps = (*requantize(rng, 40, 9), *late)
    check(subgraph((conv(rng, "conv", x, 40, (3, 3), padding=(1,) * 4, post_ops=steps),), x, y))


@pytest.mark.parametrize("preset", ["default", "ultra96", "block32"])
def test_the_last_tile_is_stored_in_pieces(preset: str) -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 128, 14, 14), dtype="int8")
    layer = conv(rng, "conv", x, 128, (3, 3), padding=(1, 1, 1, 1))
    program = check(subgraph((layer,), x), preset)
    stores = [insn for insn in program.insns if insn.opcode == Opcode.STORE and insn["x_size"]]
    last = [insn for insn in stores if insn.origin == stores[-1].origin]
    sizes = [insn["x_size"] * insn["y_size"] for insn in last]
    tile = Tile(
        n=0,
        oc=Range(2, 5),
        oy=Range(0, 3),
        ox=Range(0, 7),
        acc=10,
        origin=Origin(),
        group=Range(2, 5),
    )
    assert len(sizes) > 1 and min(sizes[:-1]) >= PIECE_VECTORS
    assert [(p.oc, p.acc) for p in tile.pieces(64)] == [(Range(2, 4), 10), (Range(6, 1), 94)]
    assert [p.oc.count for p in tile.pieces(1)] == [1] * 5 and tile.pieces(105) == [tile]


def test_shifts_per_block_and_beyond_fifteen() -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 8, 5, 5), dtype="int8")
    for shifts in (np.repeat([9, 11, 4], 16), np.full(48, 18)):
        steps = (
            PostOp(op="shr", value=shifts.astype(np.int32)),
            PostOp(op="max", value=-127),
            PostOp(op="min", value=127),
        )
        check(subgraph((conv(rng, "conv", x, 48, (3, 3), post_ops=steps),), x))


def test_big_biases_take_several_steps() -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 8, 5, 5), dtype="int8")
    bias = rng.integers(-(1 << 20), 1 << 20, 20).astype(np.int32)
    steps = (PostOp(op="add", value=bias), *requantize(rng, 20, 14)[1:])
    check(subgraph((conv(rng, "conv", x, 20, (1, 1), post_ops=steps),), x))


@pytest.mark.parametrize("oc_outer", [False, True])
def test_blocks_of_channels_too_far_apart_for_one_transfer(oc_outer: bool) -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 20, 257, 256), dtype="int8")
    graph = subgraph((conv(rng, "conv", x, 20, (1, 1)),), x)
    tiling = Tiling(oc=2, oh=3, ow=256, ic=2, oc_w=2, oc_outer=oc_outer)
    check(graph, schedule=Schedule(tilings={"conv": tiling}, forms={}))


def test_a_kernel_as_large_as_the_picture(preset: VTAConfig) -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 40, 9, 8), dtype="int8")
    first = conv(rng, "first", x, 20, (3, 3), padding=(1, 1, 1, 1))
    dense = conv(rng, "dense", first, 50, (9, 8), post_ops=requantize(rng, 50, 14))
    check(subgraph((first, dense), x), preset.name)


def test_a_kernel_as_large_as_the_picture_joins_no_pool() -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 20, 2, 3), dtype="int8")
    wide = conv(rng, "wide", x, 40, (2, 3), post_ops=requantize(rng, 40, 12, relu=False))
    program = check(subgraph((wide, max_pool("narrow", wide, 2, 2, 1)), x))
    assert [record.kind for record in program.layers] == ["conv2d", "max_pool2d"]


def test_a_bias_after_the_shift(preset: VTAConfig) -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 32, 14, 14), dtype="int8")
    steps = (
        PostOp(op="shr", value=8),
        PostOp(op="add", value=rng.integers(-100, 100, 48).astype(np.int32)),
        PostOp(op="max", value=-300),
        PostOp(op="add", value=rng.integers(-300_000, 300_000, 48).astype(np.int32)),
        PostOp(op="shr", value=13),
        PostOp(op="add", value=rng.integers(-50, 50, 48).astype(np.int32)),
        PostOp(op="min", value=127),
        PostOp(op="max", value=0),
    )
    layer = conv(rng, "conv", x, 48, (3, 3), padding=(1, 1, 1, 1), post_ops=steps)
    check(subgraph((layer,), x), preset.name)


def test_constants_after_a_shift_fill_half_of_wgt() -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 32, 6, 6), dtype="int8")
    late = PostOp(op="add", value=rng.integers(-100, 100, 512).astype(np.int32))
    _, rounding, shift, *clip = requantize(rng, 512, 12)
    layer = conv(rng, "conv", x, 512, (3, 3), post_ops=(rounding, shift, late, *clip))
    check(subgraph((layer,), x), "small")


def test_programs_stay_in_the_portable_subset() -> None:
    program = check(residual_network(np.random.default_rng(4)))
    outstanding = dict.fromkeys(("next", "prev"), 0)
    for insn in program.insns:
        if insn.opcode == Opcode.ALU:
            assert insn["alu_opcode"] in (AluOp.MIN, AluOp.MAX, AluOp.ADD, AluOp.SHR)
            if insn["alu_opcode"] == AluOp.SHR:
                assert insn["use_imm"] and 0 <= insn["imm"] <= 15
        if insn.opcode in (Opcode.LOAD, Opcode.STORE):
            assert insn["memory_type"] != Memory.ACC_8BIT
        if insn.module == Module.LOAD:
            assert not insn["pop_prev"] and not insn["push_prev"]
        if insn.opcode == Opcode.STORE:
            assert not insn["pop_next"] and not insn["push_next"]
            assert insn["memory_type"] == Memory.OUT
            assert not any(insn[f"{a}_pad_{i}"] for a in "xy" for i in (0, 1))
        for side in outstanding:
            outstanding[side] += insn[f"push_{side}"]
    assert all(outstanding.values())
    finish = program.insns[-1]
    assert finish.opcode == Opcode.FINISH and finish["pop_next"]
    assert sum(insn.opcode == Opcode.FINISH for insn in program.insns) == 1


def test_gemm_steps_are_exact() -> None:
    rng = np.random.default_rng(5)
    x = TensorSpec(name="x", shape=(1, 64, 14, 14), dtype="int8")
    program = compiled(subgraph((conv(rng, "conv", x, 128, (3, 3), padding=(1, 1, 1, 1)),), x))
    steps: Counter[str] = Counter()
    for insn in program.insns:
        if insn.opcode == Opcode.GEMM:
            assert insn.origin.layer == "conv"
            count = insn["uop_end"] - insn["uop_begin"]
            steps[insn.origin.purpose] += count * insn["iter_out"] * insn["iter_in"]
    # Taps that lie on the padding take no step: 3 a row, but 2 in the first and the last one.
    vectors, taps = 8 * 14 * 14, 8 * (14 * 3 - 2) ** 2
    assert steps == {"gemm": taps * 4, "bias": vectors * 2, "reset": vectors}


def test_zeros_around_a_picture_are_never_loaded() -> None:
    """More of them than LOAD could make, at which whole rows of outputs are constants alone."""
    rng = np.random.default_rng(5)
    x = TensorSpec(name="x", shape=(1, 20, 7, 6), dtype="int8")
    for options in ({}, {"stride": (2, 3)}, {"dilation": (4, 2)}):
        wide = conv(rng, "wide", x, 24, (3, 2), padding=(18, 3, 17, 4), **options)
        program = check(subgraph((wide,), x))
        pads = [f"{axis}_pad_{side}" for axis in "xy" for side in "01"]
        loads = [insn for insn in program.insns if insn.opcode == Opcode.LOAD]
        assert not any(insn[pad] for insn in loads for pad in pads)


def test_what_does_not_fit_is_named() -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 16, 40, 40), dtype="int8")
    huge = conv(rng, "huge", x, 16, (20, 20))
    with pytest.raises(CapacityError, match="huge: its smallest tile must fit 255 inp"):
        compiled(subgraph((huge,), x), "small")
    config = varied(VTAConfig.load("default"), inp_buffer=32)  # an element, and constants
    small = conv(rng, "small", TensorSpec(name="x", shape=(1, 16, 4, 4), dtype="int8"), 16, (1, 1))
    pool = sum_pool("pool", small, 4)
    both = tuple(
        TensorSpec(name=p.output, shape=p.out_shape, dtype=p.out_dtype) for p in (small, pool)
    )
    graph = replace(subgraph((small, pool), replace(x, shape=(1, 16, 4, 4))), outputs=both)
    with pytest.raises(
        CapacityError,
        match=r"pool: its chunks and what .* fit 1 inp elements, got 3; choose a machine with a la",
    ):
        lower(graph, config)
    y = TensorSpec(name="x", shape=(1, 1, 8, 8), dtype="int8")
    steps = (PostOp(op="add_tensor", value=14, tensor="x"),)
    far = conv(rng, "far", y, 1, (1, 1), post_ops=steps)
    with pytest.raises(
        CapacityError,
        match="far: x: must be multiplied by at most 8128, got 16384",
    ):
        compiled(subgraph((far,), y))
