"""Machines of narrow operands compute what layers mean, whatever numbers they hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.compiler.plan import Schedule
from flow.program.program import Program
from flow.sim.oracle import run_program
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from relay_passes.partition.layers import Layer, PostOp, Subgraph, TensorSpec
from tests.flow.compiler.networks import (
    conv,
    dense,
    max_pool,
    residual_network,
    subgraph,
    sum_pool,
)
from tests.flow.compiler.operators.test_depthwise_conv2d import depthwise
from tests.flow.compiler.test_lower import any_tiling, windows
from tests.relay_passes.layer_oracle import run_subgraph
from vta_config.hardware import VTAConfig

W4, W4A4 = VTAConfig.load("w4"), VTAConfig.load("w4a4")
MACHINES = {
    "w4": W4,
    "w4a4": W4A4,
    "a4": replace(W4A4, log_wgt_width=3, log_wgt_buff_bytes=18),
    "two rows": replace(W4A4, log_batch=1),
    "small": replace(W4A4, log_block=3, log_wgt_buff_bytes=14, log_acc_buff_bytes=14),
    "shifting": replace(W4, capabilities=frozenset({"shr_register"})),
}
#: What weights lie in, and what a layer clips its output to.
WEIGHT_RANGES = [(-8, 7), (-7, 7), (-119, 119), (-128, 119), (-128, 127), (0, 127)]
CLIPS = [(-7, 7), (0, 7), (-8, 7), (-119, 119), (0, 119), (-128, 127), (0, 127), (-300, 50), None]

machines = st.sampled_from(sorted(MACHINES))
clips = st.sampled_from(CLIPS)
seeds = st.integers(0, 1000)


def draw_weights(draw: st.DrawFn, rng: np.random.Generator, layer: Layer) -> Layer:
    """Return the layer with weights of some range, its ends among them."""
    assert layer.weight is not None
    low, high = draw(st.sampled_from(WEIGHT_RANGES))
    weight = rng.integers(low, high + 1, layer.weight.shape).astype(np.int8)
    weight.reshape(-1)[: weight.size // 2 : 7] = rng.choice([low, high])
    return replace(layer, weight=weight)


def draw_source(draw: st.DrawFn, name: str, shape: tuple[int, ...]) -> TensorSpec:
    """Return an input of some range."""
    low, high = draw(st.sampled_from([(-128, 127), (-119, 119), (-7, 7), (0, 100)]))
    return TensorSpec(name=name, shape=shape, dtype="int8", low=low, high=high)


def draw_steps(
    draw: st.DrawFn,
    rng: np.random.Generator,
    config: VTAConfig,
    channels: int,
    skips: tuple[str, ...] = (),
) -> tuple[PostOp, ...]:
    """Return constants, residuals, a shift, what comes late, and a clip."""
    reach = draw(st.sampled_from([10, 1000, 20_000, 300_000]))
    steps = [PostOp(op="add", value=rng.integers(-reach, reach, channels).astype(np.int32))]
    shift = draw(st.integers(1, 18))
    steps.append(PostOp(op="add", value=1 << shift - 1))
    late = []
    for name in skips:
        early, of_channels = draw(st.booleans()), np.arange(channels)
        most = draw(st.sampled_from([5, 127, 3000]))
        factors = rng.integers(1, most, channels)
        step = draw(
            st.sampled_from(
                [
                    PostOp(op="add_tensor", value=draw(st.integers(0, 12)), tensor=name),
                    PostOp(op="add_scaled", value=int(factors[0]), tensor=name),
                    PostOp(
                        op="add_scaled",
                        value=factors[of_channels // config.block].astype(np.int32),
                        tensor=name,
                    ),
                    PostOp(op="add_scaled", value=factors.astype(np.int32), tensor=name),
                ]
            )
        )
        (steps if early else late).append(step)
    amounts = np.full(channels, shift)
    if draw(st.booleans()):
        amounts = np.repeat(rng.integers(1, 18, channels), config.block)[:channels]
    steps.append(PostOp(op="shr", value=amounts.astype(np.int32)))
    if draw(st.booleans()):
        most = draw(st.sampled_from([5, 400, 50_000]))
        steps.append(PostOp(op="add", value=rng.integers(-most, most, channels).astype(np.int32)))
    clip = draw(clips)
    ends = (
        () if clip is None else (PostOp(op="max", value=clip[0]), PostOp(op="min", value=clip[1]))
    )
    return (*steps, *late, *ends)


def numbers(rng: np.random.Generator, spec: TensorSpec) -> NDArray[np.int8]:
    """Return numbers of an input's range, its ends among them."""
    x = rng.integers(spec.low, spec.high + 1, spec.shape).astype(np.int8)
    x.reshape(-1)[::5] = spec.low
    x.reshape(-1)[1::7] = spec.high
    return x


def check(
    graph: Subgraph, config: VTAConfig, *, seed: int = 0, schedule: Schedule | None = None
) -> Program:
    """Compare every layer's tensor in every engine, and in random legal orders, with numpy."""
    rng = np.random.default_rng(seed)
    inputs = [numbers(rng, spec) for spec in graph.inputs]
    expected = run_subgraph(graph, inputs)
    program = Program.from_bytes(
        make_program(graph, lower(graph, config, schedule), config).to_bytes()
    )
    sim = ProgramSim(program)
    outputs = {record.name: record.output.name for record in program.layers}
    exact = run_program(program, inputs).layers
    runs = {"oracle": {outputs[name]: tensor for name, tensor in exact.items()}}
    runs["tsim"] = dict(TSim(program).run(inputs).layers)
    for order in (None, seed, seed + 1):
        runs[f"fsim, order {order}"] = dict(sim.run(inputs, seed=order).layers)
    for engine, tensors in runs.items():
        assert tensors.keys() == set(outputs.values())
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(tensor, expected[name], err_msg=f"{name}, {engine}")
    return program


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_kind_of_layer(machine: str, seed: int) -> None:
    check(residual_network(np.random.default_rng(seed), size=20), MACHINES[machine])


@settings(max_examples=50, deadline=None)
@given(data=st.data(), machine=machines, seed=seeds)
def test_any_sums_of_convolutions(data: st.DataObject, machine: str, seed: int) -> None:
    draw, config, rng = data.draw, MACHINES[machine], np.random.default_rng(seed)
    out, channels = draw(st.tuples(st.integers(1, 9), st.integers(1, 9))), draw(st.integers(1, 40))
    inputs, bare = [], []
    for index in range(draw(st.sampled_from([1, 1, 2, 3]))):
        window, size = draw(windows(out))
        inputs.append(draw_source(draw, f"x{index}", (1, draw(st.integers(1, 40)), *size)))
        layer = conv(
            rng, f"conv{index}", inputs[-1], channels, post_ops=(), out_dtype="int32", **window
        )
        bare.append(draw_weights(draw, rng, layer))
    skips = [
        draw_source(draw, f"skip{index}", bare[0].out_shape)
        for index in range(draw(st.sampled_from([0, 0, 1, 2])))
    ]
    first, *summands = bare
    steps = draw_steps(draw, rng, config, channels, tuple(skip.name for skip in skips))
    wide = not steps[-1].op == "min" and draw(st.booleans())
    names = (*(s.name for s in inputs), *(step.tensor for step in steps if step.tensor))
    layer = replace(
        first,
        inputs=names,
        post_ops=steps,
        out_dtype="int32" if wide else "int8",
        summands=tuple(summands),
    )
    graph = subgraph((layer,), *inputs, *skips)
    schedule = None
    if machine in ("w4", "w4a4") and draw(st.booleans()):
        schedule = Schedule(tilings={"conv0": any_tiling(draw, graph, machine)}, forms={})
    check(graph, config, seed=seed, schedule=schedule)


@settings(max_examples=30, deadline=None)
@given(
    data=st.data(),
    machine=machines,
    seed=seeds,
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
    channels=st.integers(1, 40),
)
def test_any_depthwise_convolution(
    data: st.DataObject,
    machine: str,
    seed: int,
    kernel: int,
    stride: int,
    size: tuple[int, int],
    channels: int,
) -> None:
    draw, config, rng = data.draw, MACHINES[machine], np.random.default_rng(seed)
    x = draw_source(draw, "x", (1, channels, *size))
    skips = ("skip",) if draw(st.booleans()) else ()
    steps = draw_steps(draw, rng, config, channels, skips)
    window = {"stride": (stride,) * 2, "padding": (kernel // 2,) * 4}
    layer = depthwise(rng, x, (kernel, kernel), post_ops=steps, **window)
    layer = draw_weights(draw, rng, layer)
    extra = [draw_source(draw, name, layer.out_shape) for name in skips]
    check(subgraph((layer,), x, *extra), config, seed=seed)


@settings(max_examples=30, deadline=None)
@given(
    data=st.data(),
    machine=machines,
    seed=seeds,
    window=st.sampled_from([(2, 2, 0), (3, 2, 1), (3, 3, 1), (4, 3, 1), (2, 1, 0), (3, 1, 1)]),
    size=st.tuples(st.integers(5, 14), st.integers(5, 14)),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_any_pools_after_any_convolution(
    data: st.DataObject,
    machine: str,
    seed: int,
    window: tuple[int, int, int],
    size: tuple[int, int],
    channels: tuple[int, int],
) -> None:
    draw, config, rng = data.draw, MACHINES[machine], np.random.default_rng(seed)
    pool, stride, padding = window
    x = draw_source(draw, "x", (1, channels[0], *size))
    edge = draw(st.sampled_from([0, 1]))
    kernel = (2 * edge + 1,) * 2
    clip = draw(st.sampled_from([clip for clip in CLIPS if clip is not None]))
    steps = draw_steps(draw, rng, config, channels[1])
    steps = (*steps, PostOp(op="max", value=clip[0]), PostOp(op="min", value=clip[1]))
    wide = conv(rng, "wide", x, channels[1], kernel, padding=(edge,) * 4, post_ops=steps)
    out = tuple((s + 2 * padding - pool) // stride + 1 for s in size)
    assume(all((o - 1) * stride < s for o, s in zip(out, size, strict=True)))
    narrow = max_pool("narrow", draw_weights(draw, rng, wide), pool, stride, padding)
    layers = (draw_weights(draw, rng, wide), narrow, sum_pool("average", narrow, 3))
    check(subgraph(layers, x), config, seed=seed)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), machine=machines, seed=seeds)
def test_any_addition_and_dense_layer(data: st.DataObject, machine: str, seed: int) -> None:
    draw, config, rng = data.draw, MACHINES[machine], np.random.default_rng(seed)
    shape = (1, draw(st.integers(1, 40)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    x, y = (draw_source(draw, name, shape) for name in "xy")
    steps = draw_steps(draw, rng, config, shape[1], ("y",))
    added = Layer(
        name="added",
        kind="add",
        inputs=("x", "y"),
        output="added",
        in_shape=shape,
        out_shape=shape,
        weight=None,
        post_ops=(PostOp(op="add_tensor", value=draw(st.integers(0, 7)), tensor="x"), *steps),
    )
    bias = PostOp(op="add", value=rng.integers(-(1 << 20), 1 << 20, 70).astype(np.int32))
    whole = conv(rng, "whole", added, 20, shape[2:], post_ops=draw_steps(draw, rng, config, 20))
    last = dense(rng, "dense", whole, 70, post_ops=(bias,), out_dtype="int32")
    layers = (added, draw_weights(draw, rng, whole), draw_weights(draw, rng, last))
    check(subgraph(layers, x, y), config, seed=seed)
