"""Products with one number per channel: every engine gives what their definition says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.data.datasets import random_images
from flow.frontend.importer import import_model
from flow.pipeline import Pipeline
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from flow.verify import Verifier
from relay_passes.partition.layers import Layer, PostOp, TensorSpec
from tests.flow.compiler.networks import (
    conv,
    output_of,
    requantize,
    subgraph,
    sum_pool,
    weights,
)
from tests.flow.compiler.operators.engines import check_engines
from tests.flow.excited import excited
from tests.flow.onnx_models import save
from vta_config.errors import CapacityError
from vta_config.hardware import VTAConfig

#: Machines of batch 1 with operands of 8 bits.
MACHINES = ("default", "block32", "small", "ultra96")
NARROWED = (
    PostOp(op="add", value=64),
    PostOp(op="shr", value=7),
    PostOp(op="max", value=-127),
    PostOp(op="min", value=127),
)


def scaled(
    x: Layer | TensorSpec,
    factor: Layer | TensorSpec,
    *,
    name: str = "scaled",
    post_ops: tuple[PostOp, ...] = NARROWED,
    **options: Any,
) -> Layer:
    """Return a product with a factor for each channel."""
    tensor, shape = output_of(x)
    return Layer(
        name=name,
        kind="scale_channels",
        inputs=(tensor, output_of(factor)[0], *(s.tensor for s in post_ops if s.tensor)),
        output=name,
        in_shape=shape,
        out_shape=shape,
        weight=None,
        post_ops=post_ops,
        **options,
    )


def specs(*shape: int) -> tuple[TensorSpec, TensorSpec]:
    """Return a feature map and its factors."""
    factors = (*shape[:2], 1, 1)
    return (
        TensorSpec(name="x", shape=shape, dtype="int8"),
        TensorSpec(name="s", shape=factors, dtype="int8"),
    )


@pytest.mark.parametrize("zero_points", [(0, 0), (-128, 0), (0, -128), (-128, -128), (3, -127)])
@pytest.mark.parametrize("preset", MACHINES)
def test_every_engine_on_every_machine(preset: str, zero_points: tuple[int, int]) -> None:
    config = VTAConfig.load(preset)
    x, s = specs(1, 2 * config.block + 3, 9, 11)
    check_engines(scaled(x, s, zero_points=zero_points), x, config, s)


@settings(max_examples=25, deadline=None)
@given(
    preset=st.sampled_from(MACHINES),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 14), st.integers(1, 14)),
    zero_points=st.tuples(*[st.integers(-128, 127)] * 2),
    seed=st.integers(0, 99),
)
def test_any_shape(
    preset: str, shape: tuple[int, ...], zero_points: tuple[int, int], seed: int
) -> None:
    x, s = specs(*shape)
    rng = np.random.default_rng(seed)
    steps = requantize(rng, shape[1], 9, relu=False)
    layer = scaled(x, s, zero_points=zero_points, post_ops=steps)
    check_engines(layer, x, VTAConfig.load(preset), s, seed=seed)


@pytest.mark.parametrize("preset", ["default", "small"])
def test_what_needs_many_tiles(preset: str) -> None:
    x, s = specs(1, 1200 if preset == "default" else 300, 23, 40)
    program = check_engines(scaled(x, s), x, VTAConfig.load(preset), s)
    assert len({insn.origin.tile for insn in program.insns if insn.origin.tile}) > 8


def test_steps_after_it(default_config: VTAConfig) -> None:
    x, s = specs(2, 40, 8, 8)
    r = TensorSpec(name="r", shape=x.shape, dtype="int8")
    rounding, *rest = NARROWED
    steps = (rounding, PostOp(op="add_tensor", value=5, tensor="r"), *rest)
    check_engines(scaled(x, s, post_ops=steps), x, default_config, s, r)
    wide = scaled(x, s, post_ops=(), out_dtype="int32", zero_points=(-128, -127))
    check_engines(wide, x, default_config, s)


@pytest.mark.parametrize("preset", MACHINES)
def test_between_layers_whose_weights_are_loaded_ahead(preset: str) -> None:
    """Weights of the layers behind it come early; those that it makes wait for its stores."""
    config, rng = VTAConfig.load(preset), np.random.default_rng(3)
    x = TensorSpec(name="x", shape=(1, 24, 9, 9), dtype="int8")
    first = conv(rng, "first", x, 40, (3, 3), padding=(1, 1, 1, 1))
    factor = conv(rng, "factor", sum_pool("pooled", first, 6), 40, (1, 1))
    layers = [first, sum_pool("pooled", first, 6), factor]
    for index in range(3):
        name = f"scaled{index}"
        layers.append(scaled(layers[-1] if index else first, factor, name=name))
        layers.append(conv(rng, f"conv{index}", layers[-1], 40, (1, 1)))
    program = check_engines(tuple(layers), x, config)
    sim = ProgramSim(program)
    data = [weights(rng, *x.shape)]
    (expected,) = sim.run(data).outputs
    for seed in range(8):
        np.testing.assert_array_equal(sim.run(data, seed=seed).outputs[0], expected)


def test_cycles_of_a_vector(default_config: VTAConfig) -> None:
    """Reset, product, rounding, shift, two limits: 6; 1 for each zero point, 2 where it is -128."""
    x, s = specs(1, 64, 40, 40)
    vectors = 4 * 40 * 40
    for zero_points, steps in (((0, 0), 6), ((0, -127), 7), ((-127, 0), 7), ((-128, -127), 9)):
        layer = scaled(x, s, zero_points=zero_points)
        graph = subgraph((layer,), x, s)
        program = make_program(graph, lower(graph, default_config), default_config)
        cycles = TSim(program).cycles
        assert steps * vectors < cycles < 1.15 * steps * vectors + 1500, (zero_points, cycles)


def test_a_factor_too_many_for_the_machine(default_config: VTAConfig) -> None:
    x, s = specs(1, 16, 8, 8)
    config = replace(default_config, log_acc_buff_bytes=9)
    with pytest.raises(CapacityError, match="scaled: its smallest tile must fit .* acc elements"):
        check_engines(scaled(x, s), x, config, s)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "options"),
    [
        ("best", {}),
        ("profiled_fused", {"gate": "HardSigmoid", "swapped": True}),
        ("best", {"act": "LeakyRelu", "gate": "HardSigmoid", "flat": True}),
        ("dyadic", {"act": "LeakyRelu", "flat": True, "swapped": True}),
    ],
)
def test_networks_from_onnx(
    variant: str, options: dict[str, Any], tmp_path: Path, default_config: VTAConfig
) -> None:
    """Squeeze-and-excitation runs wholly on VTA, and every engine gives the host's integers."""
    pipeline = Pipeline(import_model(save(excited(**options), tmp_path / "m.onnx")), default_config)
    images = random_images((1, 3, 8, 8), 8)
    pipeline.calibrate(images)
    compiled = pipeline.compile(pipeline.form(variant))
    (program,) = compiled.programs
    kinds = [record.kind for record in program.layers]
    assert kinds.count("scale_channels") == 2 and not compiled.placement.fallbacks
    verifier = Verifier(compiled, compiled.network())
    exact = verifier.run(images.take(3), lambda done, total: None)
    assert exact.mismatches == 0, exact.first
