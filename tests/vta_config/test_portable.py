"""Limits are those of the documentation, of the instruction table and of the arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flow.compiler.cost import MAX_SLOTS
from flow.program.layouts import constant_digits, constant_vector
from relay_passes.operators.rules import residuals_fit
from vta_config import isa, portable
from vta_config.hardware import VTAConfig


@pytest.mark.parametrize("machine", ["default", "block32", "small"])
def test_the_reach_is_what_one_step_adds(machine: str) -> None:
    config = VTAConfig.load(machine)
    reach = portable.constant_reach(config.block)
    values = np.full(config.block, reach, np.int64)
    digits = constant_digits(values, config, "layer")
    assert digits.shape[1] == 1  # GEMM steps
    assert (digits[0, 0].astype(int) @ constant_vector(config)[0] == reach).all()
    assert constant_digits(values + 1, config, "layer").shape[1] == 2


def test_numbers_are_those_of_the_sources() -> None:
    # machine.md, "The portable subset", and CoreParams of hardware/chisel.
    assert (portable.MAX_TOKENS, portable.QUEUE_INSNS, portable.PORTABLE_UOPS) == (255, 512, 2048)
    assert (portable.MAX_SHIFT, portable.MAX_ACC_SHIFT, portable.MAX_RESIDUAL) == (15, 31, 8128)
    assert (isa.MIN_IMM, isa.MAX_IMM) == (-(2**15), 2**15 - 1)


def test_the_sentence_that_users_read_names_the_limit() -> None:
    assert f"at most {portable.MAX_RESIDUAL:,}" in (residuals_fit.__doc__ or "")


def test_a_larger_uop_buffer_is_not_used_and_a_smaller_one_is_respected() -> None:
    config = VTAConfig.load("default")
    for log_bytes, room in ((8, 64), (13, portable.PORTABLE_UOPS), (14, portable.PORTABLE_UOPS)):
        machine = replace(config, log_uop_buff_bytes=log_bytes)
        assert machine.uop_depth == 1 << (log_bytes - 2)
        assert portable.uop_room(machine.uop_depth) == room


def test_load_is_never_so_far_ahead_that_tokens_run_out() -> None:
    assert 2 * MAX_SLOTS <= portable.MAX_TOKENS
