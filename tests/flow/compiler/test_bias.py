"""Constants take the form that costs least: digits at some exponents, or an addition of acc."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flow.compiler.bias import LateConstants, RegisterOp, bias_digits, late_constants
from flow.program.layouts import constant_vector
from vta_config.errors import CapacityError
from vta_config.hardware import VTAConfig
from vta_config.portable import constant_reach

W4, W4A4 = VTAConfig.load("w4"), VTAConfig.load("w4a4")


def test_a_constant_takes_the_cheapest_form() -> None:
    def form(value: int, machine: VTAConfig, exponents: tuple[int, ...]) -> dict[int, int] | None:
        values = np.full(16, value, np.int64)
        digits = bias_digits(values, exponents, machine, "conv")
        return digits and {exponent: part.shape[1] for exponent, part in digits.items()}

    reach = constant_reach(16, 127, 7)
    assert reach == 7 * (127 * 14 + 15 + 1) == 12_558
    assert form(reach, W4, (0,)) == {0: 1} and form(reach + 1, W4, (0,)) == {0: 2}
    assert form(2 * reach + 1, W4, (0,)) is None  # an addition of a register takes two cycles, too
    assert form(2 * reach + 1, W4, (4, 0)) == {4: 1, 0: 1}
    assert form(16 * reach, W4, (4, 0)) == {4: 1}
    assert form(17 * reach + 1, W4, (4, 0)) is None
    assert constant_reach(16, 7, 7) == 7 * (7 * 15 + 1) == 742
    assert form(190_001, W4A4, (8, 4, 0)) == {8: 1, 0: 1}
    default, simple = (
        VTAConfig.load("default"),
        replace(VTAConfig.load("default"), timing="chisel-simple"),
    )
    reach = constant_reach(16)
    for machine, steps in ((default, 2), (simple, 1)):  # there a GEMM step takes 4 cycles, that 6
        assert form(steps * reach, machine, (0,)) == {0: steps}
        assert form(steps * reach + 1, machine, (0,)) is None
    with pytest.raises(CapacityError, match="conv.bias: must fit an int32 accumulator, got 21474"):
        form(1 << 31, W4, (0,))


@pytest.mark.parametrize("machine", [W4, W4A4, VTAConfig.load("default")])
def test_digits_times_the_vector_are_the_constants(machine: VTAConfig) -> None:
    reach = constant_reach(machine.block, machine.inp_max, machine.wgt_max)
    exponents, most = ((4, 0), 16 * reach) if machine.wgt_bits < 8 else ((0,), 2 * reach)
    values = np.random.default_rng(0).integers(-most, most + 1, 3 * 16)
    digits = bias_digits(values, exponents, machine, "conv")
    assert digits is not None and set(digits) <= set(exponents)
    vector = constant_vector(machine)[0].astype(np.int64)
    total = np.zeros(values.size, np.int64)
    for exponent, part in digits.items():
        total += (part.astype(np.int64) @ vector).sum(axis=1).reshape(-1) << exponent
    np.testing.assert_array_equal(total, values)


def test_late_constants() -> None:
    small, large = np.full(16, 3, np.int64), np.full(16, 100_000, np.int64)
    assert isinstance(late_constants(small, W4, "conv"), LateConstants)
    added = late_constants(large, W4, "conv")
    assert isinstance(added, RegisterOp) and added.op == "add"
    assert added.cycles(W4.profile) == 2 and (added.values == 100_000).all()
    assert isinstance(late_constants(large, VTAConfig.load("default"), "conv"), LateConstants)
    huge = np.full(16, -500_000, np.int64)
    assert isinstance(late_constants(huge, VTAConfig.load("default"), "conv"), RegisterOp)
    nothing = late_constants(np.zeros(16, np.int64), W4, "conv")
    assert isinstance(nothing, LateConstants) and not nothing.digits.any()
