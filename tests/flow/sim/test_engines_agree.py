"""Random legal programs give the same memory on every engine, in any token-legal order."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from flow.sim.fsim import FSim
from tests.strategies import RandomProgram, programs, random_program
from vta_config import VTAConfig
from vta_config.errors import ConfigError
from vta_config.isa import Insn, Opcode, encode
from vta_config.semantics import Dram, MachineState, run

ORDERS = (None, 0, 1, 2)


def check(program: RandomProgram, **options: Any) -> None:
    """Run `program` on the oracle and on fsim in several orders; compare memory and counters."""
    memory = program.memory.copy()
    dram = Dram([(program.address, memory)])
    state = run(MachineState(config=program.config, dram=dram), program.insns)
    stream = b"".join(encode(insn, program.config) for insn in program.insns)
    origins = [str(insn.origin) for insn in program.insns]
    arena = (program.address, memory.size)
    sim = FSim(program.config, stream, arena=arena, origins=origins, **options)
    assert sim.counters() == asdict(state.counters)
    for seed in ORDERS:
        sim.write(program.address, program.memory)
        sim.run(seed=seed)
        np.testing.assert_array_equal(sim.read(program.address, memory.size), memory)


@given(programs())
def test_fsim_agrees_with_the_oracle(program: RandomProgram) -> None:
    check(program)


@given(programs(portable=False))
def test_fsim_agrees_where_alu_steps_depend_on_each_other(program: RandomProgram) -> None:
    check(program, strict=False)


@pytest.mark.parametrize("seed", range(20))
def test_capabilities_agree(default_config: VTAConfig, seed: int) -> None:
    config = replace(default_config, capabilities=frozenset({"mul", "shr_register"}))
    check(random_program(config, seed))


@pytest.mark.parametrize("seed", range(20))
def test_presets_agree(preset: VTAConfig, seed: int) -> None:
    check(random_program(preset, seed))


@pytest.mark.parametrize("kernels", ["plain", "avx2", "avx512bw", "avx512vnni"])
def test_every_kernel_agrees(preset: VTAConfig, kernels: str) -> None:
    try:
        FSim(preset, encode(Insn(Opcode.FINISH, {}), preset), arena=(4096, 4096), kernels=kernels)
    except ConfigError as error:
        pytest.skip(str(error))
    for seed in range(100, 110):
        check(random_program(preset, seed), kernels=kernels)
