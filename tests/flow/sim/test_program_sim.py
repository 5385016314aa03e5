"""A program on the functional simulator: outputs, and every layer's tensor by its name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flow.program.program import Program
from flow.sim.program_sim import ProgramSim
from flow.system.limits import Limits
from tests.flow.compiler.networks import residual_network, weights
from tests.relay_passes.layer_oracle import run_subgraph
from vta_config.errors import CapacityError, HazardError


def test_every_layer_is_plain_numpys(program: Program) -> None:
    graph = residual_network(np.random.default_rng(1), size=32)
    x = weights(np.random.default_rng(7), *program.inputs[0].shape)
    expected = run_subgraph(graph, [x])
    result = ProgramSim(program).run([x])
    assert list(result.layers) == [record.output.name for record in program.layers]
    for name, values in result.layers.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    (output,) = result.outputs
    np.testing.assert_array_equal(output, expected["dense"])
    assert output.dtype == np.int32


def test_runs_leave_nothing_behind(program: Program) -> None:
    rng = np.random.default_rng(8)
    first, second = (weights(rng, *program.inputs[0].shape) for _ in range(2))
    sim = ProgramSim(program)
    before = sim.run([first]).outputs[0]
    assert not np.array_equal(sim.run([second]).outputs[0], before)
    np.testing.assert_array_equal(sim.run([first], seed=3).outputs[0], before)


def test_inputs_may_have_another_shape_of_the_same_size(program: Program) -> None:
    x = weights(np.random.default_rng(9), *program.inputs[0].shape)
    sim = ProgramSim(program)
    np.testing.assert_array_equal(sim.run([x]).outputs[0], sim.run([x.ravel()]).outputs[0])
    with pytest.raises(ValueError, match="zip"):
        sim.run([x, x])


def test_what_is_refused(program: Program) -> None:
    with pytest.raises(CapacityError, match="steps"):
        ProgramSim(program, limits=Limits(max_steps=1))
    with pytest.raises(HazardError, match="program: must end with FINISH, got insn .* STORE"):
        ProgramSim(replace(program, insns=program.insns[:-1]))
