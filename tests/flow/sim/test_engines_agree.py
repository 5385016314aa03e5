"""Random legal programs give the same memory on every engine, in any token-legal order."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from flow.sim.fsim import FSim
from flow.sim.tsim import time_stream
from tests.strategies import RandomProgram, programs, random_program
from vta_config import VTAConfig
from vta_config.errors import ConfigError
from vta_config.isa import Insn, Opcode, encode
from vta_config.semantics import Dram, MachineState, run

ORDERS = (None, 0, 1, 2)
KERNELS = ("plain", "avx2", "avx512bw", "avx512vnni", "amx", "neon", "neon_dot", "amx_model")


def check(program: RandomProgram, **options: Any) -> None:
    """Run `program` on the oracle, on fsim in several orders and on tsim; compare all memory."""
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
    time_stream(sim)
    sim.write(program.address, program.memory)
    sim.run(timed=True)
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


def usable(config: VTAConfig, kernels: str) -> None:
    """Skip where this processor or the block has no such kernels."""
    try:
        FSim(config, encode(Insn(Opcode.FINISH, {}), config), arena=(4096, 4096), kernels=kernels)
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("kernels", KERNELS)
def test_every_kernel_agrees(preset: VTAConfig, kernels: str) -> None:
    usable(preset, kernels)
    for seed in range(100, 110):
        check(random_program(preset, seed), kernels=kernels)


@pytest.mark.parametrize("widths", [(2, 2), (2, 3), (3, 2)], ids=lambda w: f"inp{w[0]}_wgt{w[1]}")
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("log_block", [2, 4, 5, 7])
def test_every_kernel_agrees_on_narrow_operands(
    default_config: VTAConfig, kernels: str, log_block: int, widths: tuple[int, int]
) -> None:
    inp, wgt = widths
    config = replace(  # 256 elements of each memory, of two rows
        default_config,
        log_batch=1,
        log_block=log_block,
        log_inp_width=inp,
        log_wgt_width=wgt,
        log_inp_buff_bytes=1 + log_block + inp - 3 + 8,
        log_wgt_buff_bytes=2 * log_block + wgt - 3 + 8,
        log_acc_buff_bytes=1 + log_block + 2 + 8,
    )
    usable(config, kernels)
    for seed in range(200, 203):
        check(random_program(config, seed), kernels=kernels)
