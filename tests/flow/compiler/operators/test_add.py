"""Additions: a GEMM step with a diagonal weight for each vector of each operand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from flow.backend import PipelineBackend
from flow.compiler.operators.add import LOWERER
from flow.data.datasets import image_folder
from flow.data.models import load_model, preprocessing_of
from flow.results.counters import counters_by_layer
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from relay_passes.integers.elementwise import PAIRS, Operand, pair_steps
from relay_passes.integers.hinges import INPUTS, fit_function
from relay_passes.integers.steps import StepsPlan
from relay_passes.params import QuantParams
from relay_passes.partition.layers import Layer, PostOp, TensorSpec
from tests.flow.compiler.operators.counts import counted
from tests.flow.compiler.operators.stepped import check_steps
from tests.flow.data.test_datasets import write_image
from tests.flow.onnx_models import save
from tests.flow.onnx_models import weights as tensors
from tests.relay_passes.integers.functions import FUNCTIONS
from vta_config.hardware import VTAConfig, preset_names

SHAPE = (1, 24, 6, 5)
X, Y, Z = (TensorSpec(name=name, shape=SHAPE, dtype="int8") for name in "xyz")


def added(*operands: tuple[TensorSpec, int]) -> Layer:
    """Return clip((sum of tensors, each shifted left) >> 3)."""
    return Layer(
        name="added",
        kind="add",
        inputs=tuple(spec.name for spec, _ in operands),
        output="added",
        in_shape=SHAPE,
        out_shape=SHAPE,
        weight=None,
        post_ops=(
            *(PostOp(op="add_tensor", value=shift, tensor=spec.name) for spec, shift in operands),
            PostOp(op="shr", value=3),
            PostOp(op="max", value=-127),
            PostOp(op="min", value=127),
        ),
    )


@pytest.mark.parametrize("specs", [(X,), (X, Y), (X, Y, Z)])
def test_a_step_for_each_operand(specs: tuple[TensorSpec, ...]) -> None:
    layer = added(*((spec, shift) for shift, spec in enumerate(specs)))
    counts = counted(layer, inputs=specs)
    assert counts["gemm_residual_ops"] == len(specs) * 2 * 30
    assert counts["gemm_conv_ops"] == counts["gemm_bias_ops"] == 0
    assert counts["inp_bytes"] == len(specs) * 2 * 30 * 16
    assert counts["alu_ops"] == 3 * 2 * 30


def test_pictures_larger_than_the_scratchpads() -> None:
    large = TensorSpec(name="x", shape=(1, 16, 70, 70), dtype="int8")
    layer = Layer(
        name="added",
        kind="add",
        inputs=("x",),
        output="added",
        in_shape=large.shape,
        out_shape=large.shape,
        weight=None,
        post_ops=(
            PostOp(op="add_tensor", value=1, tensor="x"),
            PostOp(op="shr", value=2),
        ),
    )
    assert counted(layer, inputs=(large,))["gemm_residual_ops"] == 4900


def test_there_is_nothing_to_search() -> None:
    assert not LOWERER.searched


# ---- functions of a tensor, and of two -----------------------------------------------------------
def function_plan(name: str, reach: float = 8.0) -> StepsPlan:
    values = FUNCTIONS[name](INPUTS * reach / 127)
    found = fit_function(values / np.abs(values).max() * 119, (-119, 119))
    assert found is not None
    return found.plan.reading({"": "x"})


@pytest.mark.parametrize("name", ["leaky relu", "hard swish", "sigmoid", "negative"])
@pytest.mark.parametrize("preset", preset_names())
def test_a_function_on_every_machine(preset: str, name: str) -> None:
    config = VTAConfig.load(preset)
    shape = (config.batch, 2 * config.block + 3, 7, 5)
    x = np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)
    check_steps(function_plan(name), {"x": x}, config)


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(sorted(FUNCTIONS)),
    preset=st.sampled_from(preset_names()),
    size=st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(1, 20)),
    reach=st.floats(0.5, 16),
    seed=st.integers(0, 99),
)
def test_any_function(
    name: str, preset: str, size: tuple[int, int, int], reach: float, seed: int
) -> None:
    config = VTAConfig.load(preset)
    x = np.random.default_rng(seed).integers(-128, 128, (config.batch, *size)).astype(np.int8)
    check_steps(function_plan(name, reach), {"x": x}, config)


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(sorted(PAIRS)),
    preset=st.sampled_from(preset_names()),
    size=st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12)),
    scales=st.tuples(st.floats(0.1, 2), st.floats(0.1, 2)),
    seed=st.integers(0, 99),
)
def test_any_two_tensors(
    kind: str,
    preset: str,
    size: tuple[int, int, int],
    scales: tuple[float, float],
    seed: int,
) -> None:
    config, rng = VTAConfig.load(preset), np.random.default_rng(seed)
    x, y = (rng.integers(-128, 128, (config.batch, *size)).astype(np.int8) for _ in range(2))
    operands = Operand("x", scales[0], 0, 127), Operand("y", scales[1], -128, 255)
    plan = pair_steps(kind, operands, QuantParams(scale=(1.0,)), (-127, 127))
    assert plan is not None
    check_steps(plan, {"x": x, "y": y}, config)


def test_what_is_read_several_times_is_loaded_once(default_config: VTAConfig) -> None:
    x = np.random.default_rng(1).integers(-128, 128, (1, 64, 14, 14)).astype(np.int8)
    plan = function_plan("sigmoid")
    program = check_steps(plan, {"x": x}, default_config)
    counts = counters_by_layer(ProgramSim(program))["result"]
    assert counts["inp_bytes"] == x.size
    steps = sum(s.op == "add_scaled" for s in plan.parts[0].steps)
    assert steps > 2
    assert counts["gemm_residual_ops"] == steps * 4 * 14 * 14


@pytest.mark.parametrize("name", ["leaky relu", "sigmoid", "hard swish"])
def test_cycles_a_vector(name: str, default_config: VTAConfig) -> None:
    """What the search for lines counts is what the machine takes, but for starts and ends."""
    values = FUNCTIONS[name](INPUTS * 8 / 127)
    found = fit_function(values / np.abs(values).max() * 127, (-127, 127))
    assert found is not None
    x = np.random.default_rng(1).integers(-128, 128, (1, 64, 28, 28)).astype(np.int8)
    program = check_steps(found.plan.reading({"": "x"}), {"x": x}, default_config)
    vectors = 4 * 28 * 28
    assert found.cycles * vectors <= TSim(program).cycles <= (found.cycles + 2) * vectors


def activated(name: str, nodes: list[onnx.NodeProto], **values: Any) -> onnx.ModelProto:
    """Return conv -> relu -> conv -> `nodes`, of r0 and c1 to y -> conv -> pool -> dense."""
    rng = np.random.default_rng(9)
    ends = tensors(
        stem=rng.normal(size=(20, 3, 3, 3)),
        middle=rng.normal(size=(20, 20, 1, 1)) / 3,
        head=rng.normal(size=(5, 20)),
        bias=rng.normal(size=20),
        **values,
    )
    made = [
        helper.make_node("Conv", ["data", "stem", "bias"], ["c0"], pads=[1] * 4),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "middle", "bias"], ["c1"]),
        *nodes,
        helper.make_node("Conv", ["y", "middle", "bias"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "head"], ["logits"], transB=1),
    ]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 12, 12])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(made, name, [data], [logits], ends)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)


NETWORKS = {
    "leaky": ([helper.make_node("LeakyRelu", ["c1"], ["y"], alpha=0.1)], {}),
    "prelu": ([helper.make_node("PRelu", ["c1", "s"], ["y"])], {"s": np.linspace(0, 0.5, 20)}),
    "hard swish": ([helper.make_node("HardSwish", ["c1"], ["y"])], {}),
    "silu": (
        [
            helper.make_node("Sigmoid", ["c1"], ["s"]),
            helper.make_node("Mul", ["c1", "s"], ["y"]),
        ],
        {},
    ),
    "a number": ([helper.make_node("Max", ["c1", "k"], ["y"])], {"k": -0.5}),
    "one bound": ([helper.make_node("Clip", ["c1", "", "k"], ["y"])], {"k": 1.5}),
    **{
        op.lower(): ([helper.make_node(op, ["c1", "r0"], ["y"])], {})
        for op in ("Sub", "Max", "Min")
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        *((name, "profiled_fused") for name in NETWORKS),
        ("hard swish", "fine_residuals"),
        ("max", "fine_residuals"),
    ],
)
def test_networks_from_onnx_run_wholly_on_vta(
    name: str, variant: str, tmp_path: Path, default_config: VTAConfig
) -> None:
    nodes, values = NETWORKS[name]
    values = {key: np.reshape(v, (-1, 1, 1)) if np.ndim(v) else v for key, v in values.items()}
    model = load_model(str(save(activated("net", nodes, **values), tmp_path / "net.onnx")))
    backend = PipelineBackend(model, default_config)
    for index in range(6):
        write_image(tmp_path / "images" / f"{index}.png", 40 * index)
    images = image_folder(tmp_path / "images", preprocessing_of(model))
    backend.calibrate(images, lambda done, total: None)
    compiled = backend.compile(variant)
    assert compiled.model.host.fallbacks == () and len(compiled.model.programs) == 1
    exact = compiled.verify(images.take(2), lambda done, total: None)
    assert exact.mismatches == 0, exact.first
