"""A shift and a residual's multiplier a channel, on machines that shift by a register."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.compiler.normal_form import normal_layer
from flow.compiler.residual import residuals_of
from flow.program.program import Program
from flow.sim.oracle import run_program
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from relay_passes.partition.layers import Layer, PostOp, Subgraph, TensorSpec
from tests.flow.compiler.networks import conv, requantize, residual_network, subgraph, weights
from tests.relay_passes.layer_oracle import run_subgraph
from vta_config.errors import CapacityError, DecodeError, UnsupportedModelError
from vta_config.hardware import VTAConfig, preset_names
from vta_config.isa import AluOp, Memory, Opcode
from vta_config.origin import Origin, Purpose


def shifting(preset: str) -> VTAConfig:
    config = VTAConfig.load(preset)
    return replace(config, capabilities=frozenset({"shr_register"}))


def program_of(graph: Subgraph, config: VTAConfig) -> Program:
    return make_program(graph, lower(graph, config), config)


def check(graph: Subgraph, config: VTAConfig, *, seed: int = 0) -> Program:
    """Compare every layer's tensor with numpy, in stream order and in random legal orders."""
    rng = np.random.default_rng(seed)
    inputs = [weights(rng, *spec.shape) for spec in graph.inputs]
    expected = run_subgraph(graph, inputs)
    program = program_of(graph, config)
    sim = ProgramSim(program)
    for order in (None, seed + 1):
        for name, tensor in sim.run(inputs, seed=order).layers.items():
            np.testing.assert_array_equal(tensor, expected[name], err_msg=f"{name}, order {order}")
    return program


def per_channel(rng: np.random.Generator, layer: Layer, *, most: int = 31) -> Layer:
    """Return `layer` with a shift a channel in place of its first."""
    channels = layer.out_shape[1]
    index = next((i for i, s in enumerate(layer.post_ops) if s.op == "shr"), None)
    if index is None:
        return layer
    amounts = rng.integers(0, most + 1, channels).astype(np.int32)
    steps = list(layer.post_ops)
    steps[index] = PostOp(op="shr", value=amounts)
    return replace(layer, post_ops=tuple(steps))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.integers(1, 70),
    kernel=st.sampled_from([1, 3]),
    preset=st.sampled_from(preset_names()),
    most=st.sampled_from([100, 300, 2000]),
)
def test_any_residual_convolution(
    seed: int, size: tuple[int, int], channels: int, kernel: int, preset: str, most: int
) -> None:
    rng = np.random.default_rng(seed)
    x = TensorSpec(name="x", shape=(1, channels, *size), dtype="int8")
    factors = rng.integers(1, most, channels).astype(np.int32)
    bias, *rest = requantize(rng, channels, 8)
    steps = (bias, PostOp(op="add_scaled", value=factors, tensor="x"), *rest)
    edge = kernel // 2
    layer = conv(rng, "conv", x, channels, (kernel, kernel), padding=(edge,) * 4, post_ops=steps)
    check(subgraph((per_channel(rng, layer),), x), shifting(preset))


@pytest.mark.parametrize("preset", preset_names())
def test_every_kind_of_layer_on_every_machine(preset: str) -> None:
    rng = np.random.default_rng(1)
    graph = residual_network(rng)
    graph = replace(graph, layers=tuple(per_channel(rng, layer) for layer in graph.layers))
    check(graph, shifting(preset))


def test_all_engines_agree() -> None:
    rng = np.random.default_rng(2)
    graph = residual_network(rng, size=16)
    graph = replace(graph, layers=tuple(per_channel(rng, layer) for layer in graph.layers))
    x = weights(rng, 1, 3, 16, 16)
    expected = run_subgraph(graph, [x])["dense"]
    program = check(graph, shifting("default"))
    np.testing.assert_array_equal(run_program(program, [x]).outputs[0], expected)
    np.testing.assert_array_equal(TSim(program).run([x]).outputs[0], expected)


def loads_of_amounts(program: Program) -> list[int]:
    return [
        insn.values["x_size"]
        for insn in program.insns
        if insn.opcode == Opcode.LOAD and insn.values["memory_type"] == Memory.ACC
    ]


def test_amounts_are_loaded_once_where_they_fit() -> None:
    rng = np.random.default_rng(3)
    x = TensorSpec(name="x", shape=(1, 16, 40, 40), dtype="int8")
    layer = per_channel(rng, conv(rng, "conv", x, 272, (1, 1)), most=20)
    assert loads_of_amounts(check(subgraph((layer,), x), shifting("default"))) == [17]
    many = loads_of_amounts(check(subgraph((layer,), x), shifting("small")))
    assert set(many) == {16, 1}  # a sixteenth of 256 elements, and the rest


def test_blocks_of_one_shift_need_no_register() -> None:
    rng = np.random.default_rng(4)
    x = TensorSpec(name="x", shape=(1, 16, 8, 8), dtype="int8")
    steps = (PostOp(op="shr", value=np.repeat([7, 9], 16).astype(np.int32)),)
    layer = conv(rng, "conv", x, 32, (1, 1), post_ops=(*steps, *requantize(rng, 32, 3)[3:]))
    program = check(subgraph((layer,), x), shifting("default"))
    assert not loads_of_amounts(program)


def test_a_multiplication_before_the_shift() -> None:
    rng = np.random.default_rng(8)
    x = TensorSpec(name="x", shape=(1, 16, 8, 8), dtype="int8")
    layer = per_channel(rng, conv(rng, "conv", x, 40, (1, 1)))
    steps = (*layer.post_ops[:2], PostOp(op="mul", value=7), *layer.post_ops[2:])
    check(subgraph((replace(layer, post_ops=steps),), x), shifting("default"))


def test_the_cost_counts_two_cycles() -> None:
    rng = np.random.default_rng(5)
    x = TensorSpec(name="x", shape=(1, 16, 8, 8), dtype="int8")
    layer = conv(rng, "conv", x, 16, (1, 1))
    plain, register = (
        normal_layer(candidate, shifting("default")).shape.vector_cycles
        for candidate in (layer, per_channel(rng, layer, most=15))
    )
    assert register == plain + 1


def test_diagonals_add_up() -> None:
    rng = np.random.default_rng(6)
    x = TensorSpec(name="x", shape=(1, 20, 4, 4), dtype="int8")
    factors = rng.integers(1, 1000, 20).astype(np.int32)
    layer = conv(rng, "conv", x, 20, (1, 1),
                 post_ops=(PostOp(op="add_scaled", value=factors, tensor="x"),))  # fmt: skip
    (found,) = residuals_of(layer.post_ops[0], layer, VTAConfig.load("default"))
    assert found.diagonals is not None and found.diagonals.min() >= 0
    assert found.passes == -(-int(factors.max()) // 127)
    total = found.diagonals.astype(int).sum(axis=1)
    np.testing.assert_array_equal(np.diagonal(total, axis1=1, axis2=2).ravel()[:20], factors)
    assert np.count_nonzero(total) == 32  # the last channel's fills up its block


def test_refusals(default_config: VTAConfig) -> None:
    rng = np.random.default_rng(7)
    x = TensorSpec(name="x", shape=(1, 16, 4, 4), dtype="int8")
    graph = subgraph((per_channel(rng, conv(rng, "conv", x, 16, (1, 1)), most=15),), x)
    with pytest.raises(
        UnsupportedModelError, match=r"conv\.shr: must be one number a block of output channels"
    ):
        lower(graph, default_config)
    program = program_of(graph, shifting("default"))
    shift = next(
        i
        for i in program.insns
        if i.opcode == Opcode.ALU and i.values["alu_opcode"] == AluOp.SHR and not i["use_imm"]
    )
    assert shift.origin == Origin(layer="conv", tile=(0, 0, 0), purpose=Purpose.REQUANTIZE)
    with pytest.raises(
        DecodeError,
        match="^ALU.use_imm: must be 1 for SHR, or SHR_REGISTER a capability of the machine, got 0",
    ):
        ProgramSim(replace(program, config=default_config))
    step = PostOp(op="add_scaled", value=np.arange(8000, 8016, dtype=np.int32), tensor="x")
    wide = conv(rng, "wide", x, 16, (1, 1), post_ops=(step,))
    tiny = replace(default_config, log_wgt_buff_bytes=12)
    with pytest.raises(CapacityError, match="wide: its smallest tile must fit"):
        lower(subgraph((wide,), x), tiny)
    added = replace(wide, kind="add", name="added", inputs=("x",), weight=None)
    with pytest.raises(CapacityError, match="added: its smallest tile must fit"):
        lower(subgraph((added,), x), tiny)
