"""Machines of narrow operands compute what layers mean, whatever numbers they hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flow.compiler.cost import cost, least_cycles
from flow.compiler.link import make_program
from flow.compiler.lower import Lowering, lower
from flow.compiler.planes import output_range, tensor_planes, weight_exponents, weight_plane
from flow.compiler.schedule import Schedule
from flow.compiler.search import search
from flow.compiler.tiling import choose_tiling, shortlist
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
from vta_config.isa import AluOp, Opcode

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


# ---- the parts ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("low", "high", "exponents"),
    [(-8, 7, (0,)), (-9, 7, (4, 0)), (-128, 119, (4, 0)), (0, 8, (4, 0)), (0, 120, (4, 4, 0))],
)
def test_planes_of_weights_add_up(low: int, high: int, exponents: tuple[int, ...]) -> None:
    weight = np.arange(low, high + 1, dtype=np.int8).reshape(1, -1, 1, 1)
    assert weight_exponents(weight, W4) == exponents
    planes = [weight_plane(weight, i, exponents, W4) for i in range(len(exponents))]
    assert all(plane.min() >= -8 and plane.max() <= 7 for plane in planes)
    total = sum(p.astype(np.int64) << e for p, e in zip(planes, exponents, strict=True))
    np.testing.assert_array_equal(total, weight)
    assert weight_exponents(weight, VTAConfig.load("default")) == (0,)
    assert weight_plane(weight, 0, (0,), VTAConfig.load("default")) is weight


def clipped(*steps: tuple[str, int]) -> Layer:
    x = TensorSpec(name="x", shape=(1, 16, 4, 4), dtype="int8")
    post_ops = tuple(PostOp(op=op, value=value) for op, value in steps)  # type: ignore[arg-type]
    return conv(np.random.default_rng(0), "conv", x, 16, (1, 1), post_ops=post_ops)


@pytest.mark.parametrize(
    ("steps", "both"),
    [
        ((("max", -7), ("min", 7)), (-7, 7)),
        ((("min", 7), ("max", 0)), (0, 7)),
        ((("max", -119), ("min", 119), ("max", 0)), (0, 119)),
        ((("max", -400), ("min", 200), ("shr", 3)), (-50, 25)),
        ((("max", 0), ("min", 5), ("add", 3)), (-np.inf, np.inf)),
        ((("max", 0),), (0, np.inf)),
        ((), (-np.inf, np.inf)),
    ],
)
def test_what_a_layer_clips_to(
    steps: tuple[tuple[str, int], ...], both: tuple[float, float]
) -> None:
    assert output_range(clipped(*steps), {}) == both


def test_planes_of_tensors() -> None:
    narrow = clipped(("max", 0), ("min", 7))
    pool = max_pool("pool", narrow, 2, 2)
    wide = replace(clipped(("max", 0)), name="wide", output="wide")
    x = TensorSpec(name="x", shape=(1, 16, 4, 4), dtype="int8", low=-119, high=119)
    last = replace(clipped(), name="last", output="last", out_dtype="int32")
    graph = Subgraph(
        symbol="vta_0",
        inputs=(x,),
        outputs=(TensorSpec(name="last", shape=last.out_shape, dtype="int32"),),
        layers=(narrow, pool, wide, last),
    )
    names = ("x", "conv", "pool", "wide", "last")
    for machine, planes in ((W4A4, [2, 1, 1, 3, 8]), (W4, [1, 1, 1, 1, 4])):
        found = tensor_planes(graph, machine)
        assert [found[name] for name in names] == planes


def steps_by_purpose(program: Program) -> Counter[str]:
    """Return the operations on vectors of each purpose."""
    steps: Counter[str] = Counter()
    for insn in program.insns:
        if insn.opcode in (Opcode.GEMM, Opcode.ALU):
            count = insn["uop_end"] - insn["uop_begin"]
            steps[str(insn.origin.purpose)] += count * insn["iter_out"] * insn["iter_in"]
    return steps


@pytest.mark.parametrize(
    ("machine", "weights", "clip", "products", "shifts", "stores"),
    [
        (W4, 7, 127, 1, 0, 0),
        (W4, 119, 127, 2, 1, 0),
        (W4, 127, 127, 3, 1, 0),
        (W4A4, 7, 7, 1, 0, 0),
        (W4A4, 7, 119, 2, 1, 2),
        (W4A4, 119, 119, 4, 2, 2),
        (W4A4, 7, 127, 3, 2, 4),
    ],
)
def test_a_layer_takes_as_many_steps_as_its_numbers_need(
    machine: VTAConfig, weights: int, clip: int, products: int, shifts: int, stores: int
) -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 32, 8, 8), dtype="int8", low=-clip, high=clip)
    ends = (PostOp(op="max", value=-clip), PostOp(op="min", value=clip))
    steps = (PostOp(op="add", value=300), PostOp(op="shr", value=9), *ends)
    layer = conv(rng, "conv", x, 48, (3, 3), padding=(1, 1, 1, 1), post_ops=steps)
    assert layer.weight is not None
    weight = np.where(layer.weight > 0, weights, -1).astype(np.int8)
    program = check(subgraph((replace(layer, weight=weight),), x), machine)
    vectors, inside = 3 * 8 * 8, (8 * 3 - 2) ** 2
    found = steps_by_purpose(program)
    assert found["gemm"] == products * 3 * 2 * inside
    assert found["shift"] == shifts * vectors
    assert found["store"] == stores * vectors  # rounding and a shift for each further plane
    assert (found["bias"], found["requantize"]) == (vectors, 3 * vectors)


def test_planes_share_what_is_loaded() -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 64, 8, 8), dtype="int8", low=-119, high=119)
    layer = conv(rng, "conv", x, 64, (3, 3), padding=(1, 1, 1, 1))
    assert layer.weight is not None
    graph = subgraph((replace(layer, weight=np.clip(layer.weight, -119, 119)),), x)
    for machine in (W4, W4A4):
        program = check(graph, machine, schedule=Schedule(forms={}))
        config, bits = program.config, machine.inp_bits
        loaded = {"weights": 0, "input": 0}
        for insn in program.insns:
            if insn.opcode == Opcode.LOAD and insn.origin.purpose in loaded:
                loaded[insn.origin.purpose] += insn["x_size"] * insn["y_size"]
        assert loaded["input"] == (2 if bits == 4 else 1) * 4 * 64
        digits = 4 * (3 if bits == 4 else 2)
        assert 2 * 16 * 9 <= loaded["weights"] <= 2 * 16 * 9 + digits
        assert config == machine


def test_the_cost_model_knows_planes() -> None:
    """Bounds are below costs, and costs near what the simulator says."""
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 64, 16, 16), dtype="int8", low=-119, high=119)
    layer = conv(rng, "conv", x, 64, (3, 3), padding=(1, 1, 1, 1))
    assert layer.weight is not None
    layer = replace(layer, weight=np.clip(layer.weight, -119, 119))
    graph = subgraph((layer,), x)
    for machine in (W4, W4A4):
        lowering = Lowering(graph, machine, Schedule(forms={}))
        shape, capacity = lowering.layers[0].shape, lowering.residents.capacity
        for estimate, tiling in shortlist(shape, capacity, 10_000):
            assert least_cycles(shape, tiling, capacity) <= estimate.cycles
        best = choose_tiling(shape, capacity)
        cycles = TSim(
            make_program(graph, lower(graph, machine, Schedule(forms={})), machine)
        ).cycles
        assert cost(shape, best, capacity).cycles == pytest.approx(cycles, rel=0.06)


def test_a_search_finds_tilings_for_planes() -> None:
    graph = residual_network(np.random.default_rng(3), size=20)
    for machine in (W4, W4A4):
        check(graph, machine, schedule=search(graph, machine))


def test_programs_of_narrow_machines_stay_in_the_portable_subset() -> None:
    program = check(residual_network(np.random.default_rng(4), size=20), W4A4)
    shifts = [
        insn["imm"]
        for insn in program.insns
        if insn.opcode == Opcode.ALU and insn["alu_opcode"] == AluOp.SHR
    ]
    assert min(shifts) >= -15 and max(shifts) <= 15
    assert all(
        insn["alu_opcode"] in (AluOp.MIN, AluOp.MAX, AluOp.ADD, AluOp.SHR)
        for insn in program.insns
        if insn.opcode == Opcode.ALU
    )
