"""Compiled programs on the numpy oracle."""

from __future__ import annotations

import numpy as np
import pytest
import tvm_ffi
from numpy.typing import NDArray

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.program import Program
from flow.sim.oracle import ENGINE_FUNCTION, run_program
from relay_passes.partition.layers import Layer, PostOp, Subgraph, TensorSpec
from tests.relay_passes.layer_oracle import run_subgraph
from vta_config import VTAConfig
from vta_config.errors import CapacityError

REQUANTIZE = (
    PostOp(op="add", value=1 << 6),
    PostOp(op="shr", value=7),
    PostOp(op="max", value=0),
    PostOp(op="min", value=127),
)


def subgraph() -> Subgraph:
    """Return conv+ReLU, then a dense layer with int32 results."""
    rng = np.random.default_rng(0)
    conv = Layer(
        name="conv",
        kind="conv2d",
        inputs=("x",),
        output="y",
        in_shape=(1, 20, 5, 5),
        out_shape=(1, 10, 5, 5),
        weight=rng.integers(-127, 128, (10, 20, 3, 3), dtype=np.int8),
        kernel=(3, 3),
        padding=(1, 1, 1, 1),
        post_ops=REQUANTIZE,
    )
    pool = Layer(
        name="pool",
        kind="sum_pool2d",
        inputs=("y",),
        output="z",
        in_shape=(1, 10, 5, 5),
        out_shape=(1, 10, 1, 1),
        weight=None,
        kernel=(5, 5),
        post_ops=REQUANTIZE,
    )
    dense = Layer(
        name="dense",
        kind="dense",
        inputs=("z",),
        output="logits",
        in_shape=(1, 10, 1, 1),
        out_shape=(1, 7, 1, 1),
        weight=rng.integers(-127, 128, (7, 10, 1, 1), dtype=np.int8),
        out_dtype="int32",
    )
    return Subgraph(
        symbol="main_0",
        inputs=(TensorSpec(name="x", shape=(1, 20, 5, 5), dtype="int8"),),
        outputs=(TensorSpec(name="logits", shape=(1, 7, 1, 1), dtype="int32"),),
        layers=(conv, pool, dense),
    )


def compiled(config: VTAConfig) -> Program:
    graph = subgraph()
    return make_program(graph, lower(graph, config), config)


def image() -> NDArray[np.int8]:
    return np.random.default_rng(1).integers(-127, 128, (1, 20, 5, 5), dtype=np.int8)


def test_every_layer_equals_plain_numpy(preset: VTAConfig) -> None:
    program, x = compiled(preset), image()
    expected = run_subgraph(subgraph(), [x])
    result = run_program(program, [x])
    for name, tensor in (("conv", "z"), ("dense", "logits")):  # the pool joins the conv
        np.testing.assert_array_equal(result.layers[name], expected[tensor], name)
    np.testing.assert_array_equal(result.outputs[0], expected["logits"])
    assert result.outputs[0].dtype == np.int32
    assert result.counters.insns == len(program.insns)


def test_engine_function_runs_on_an_arena() -> None:
    config = VTAConfig.load("default")
    program, x = compiled(config), image()
    arena = program.new_arena()
    packed = program.inputs[0].pack(x, config)
    arena[program.inputs[0].address :][: packed.size] = packed
    tvm_ffi.get_global_func(ENGINE_FUNCTION)(program.to_bytes(), tvm_ffi.from_dlpack(arena))
    port = program.outputs[0]
    data = arena[port.address :][: port.bytes_in(config)]
    expected = run_program(program, [x]).outputs[0]
    np.testing.assert_array_equal(port.unpack(data, config), expected)


def test_inputs_must_be_those_of_the_program() -> None:
    program = compiled(VTAConfig.load("default"))
    with pytest.raises(CapacityError, match="main_0: must be given 1 inputs, got 0; pass them in"):
        run_program(program, [])
    wrong = np.zeros((1, 20, 5, 4), np.int8)
    sentence = r"main_0\.x: must have the shape \(1, 20, 5, 5\), got \(1, 20, 5, 4\); compile for"
    with pytest.raises(CapacityError, match=sentence):
        run_program(program, [wrong])
