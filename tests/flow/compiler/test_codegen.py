"""The hook by which Relax makes runtime modules of annotated functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from flow.compiler.codegen import build, compile_function
from flow.compiler.link import make_program
from flow.compiler.lower import lower
from relay_passes.host.run import HostModule
from relay_passes.partition.partition import partition
from relay_passes.partition.read import annotated_functions, subgraph_of
from tests.relay_passes.integers.stages import INTEGERS
from vta_config import VTAConfig
from vta_config.isa import Opcode

X = np.float32([0.5, 1.25, -0.75, 1.0]).reshape(1, 1, 2, 2)


def run(executable: Any) -> list[float]:
    machine = relax.VirtualMachine(executable, tvm.cpu())
    values: list[float] = machine["main"](tvm.runtime.tensor(X)).numpy().ravel().tolist()
    return values


@pytest.fixture
def partitioned(default_config: VTAConfig) -> Any:
    return partition(INTEGERS, default_config)


def test_a_function_becomes_what_lowering_gives(
    partitioned: Any, default_config: VTAConfig
) -> None:
    (function,) = annotated_functions(partitioned)
    graph = subgraph_of(function, default_config)
    expected = make_program(graph, lower(graph, default_config), default_config)
    program = compile_function(function, default_config)
    assert program.to_bytes() == expected.to_bytes()
    assert [record.name for record in program.layers] == ["conv0", "conv1"]


def test_an_executable_computes_the_integers(partitioned: Any, default_config: VTAConfig) -> None:
    """By hand: 3/8 of [3, 7, 0, 5]; compiled here, or before."""
    expected = [1.125, 2.625, 0.0, 1.875]
    assert HostModule(INTEGERS)(X)[0].ravel().tolist() == expected
    assert run(build(partitioned, default_config)) == expected
    (function,) = annotated_functions(partitioned)
    program = compile_function(function, default_config)
    assert run(build(partitioned, default_config, [program])) == expected


def test_a_program_that_was_given_is_taken_as_it_is(
    partitioned: Any, default_config: VTAConfig
) -> None:
    (function,) = annotated_functions(partitioned)
    program = compile_function(function, default_config)
    shift = next(
        i for i, x in enumerate(program.insns)
        if x.opcode == Opcode.ALU and x.origin.layer == "conv0" and x["imm"] == 1
    )  # fmt: skip
    insns = list(program.insns)
    insns[shift] = insns[shift].having(imm=0)
    other = replace(program, insns=tuple(insns))
    # Not shifted right: 3/8 of [7, 15, 0, 11].
    assert run(build(partitioned, default_config, [other])) == [2.625, 5.625, 0.0, 4.125]
