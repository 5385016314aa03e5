"""portable.py: what every stock core has, and that the compiler keeps to it."""

from __future__ import annotations

from dataclasses import replace

from flow.compiler.cost import MAX_SLOTS
from vta_config import VTAConfig
from vta_config.portable import MAX_SHIFT, MAX_TOKENS, PORTABLE_UOPS, uop_room


def test_limits_are_those_of_the_stock_core() -> None:
    assert (PORTABLE_UOPS, MAX_TOKENS, MAX_SHIFT) == (2048, 255, 15)


def test_a_larger_uop_buffer_is_not_used_and_a_smaller_one_is_respected() -> None:
    config = VTAConfig.load("default")
    for log_bytes, room in ((8, 64), (13, PORTABLE_UOPS), (14, PORTABLE_UOPS)):
        machine = replace(config, log_uop_buff_bytes=log_bytes)
        assert machine.uop_depth == 1 << (log_bytes - 2) and uop_room(machine) == room


def test_load_is_never_so_far_ahead_that_tokens_run_out() -> None:
    assert 2 * MAX_SLOTS <= MAX_TOKENS
