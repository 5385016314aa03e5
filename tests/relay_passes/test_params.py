"""The central types reject what cannot be."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from relay_passes.params import QuantParams, Requant, TensorProfile, scale_text
from vta_config.errors import CalibrationError, CapacityError


def profile(**changes: Any) -> TensorProfile:
    values: dict[str, Any] = {
        "name": "conv1",
        "lo": -1.0,
        "hi": 2.0,
        "histogram": np.zeros(4, np.int64),
        "limit": 2.0,
        "samples": 1,
        "sample_hi": np.ones(1, np.float32),
    }
    return TensorProfile(**values | changes)


def test_profile() -> None:
    assert profile().max_abs == 2.0
    with pytest.raises(CalibrationError, match=r"conv1: must be profiled on at least one image, g"):
        profile(samples=0)
    with pytest.raises(CalibrationError, match=r"conv1: must have finite values during calibratio"):
        profile(hi=float("nan"))


def test_quant_params() -> None:
    params = QuantParams(scale=(0.5,))
    assert (params.qmin, params.qmax, params.zero_point) == (-127, 127, 0)
    assert QuantParams(scale=(0.5,), bits=4, signed=False).qmin == 0
    assert QuantParams(scale=(0.5,)).scales(3).tolist() == [0.5] * 3
    block = QuantParams(scale=(1.0, 2.0), granularity="block")
    assert block.scales(3, 2).tolist() == [1, 1, 2]
    limited = QuantParams(scale=(0.5,), limit=119)
    assert (limited.qmin, limited.qmax) == (-119, 119)
    assert QuantParams(scale=(0.5,), bits=4, limit=119).qmax == 7
    full = QuantParams(scale=(0.5,), signed=False, zero_point=-128)
    assert (full.qmin, full.qmax, full.levels, full.bound) == (-128, 127, 255, 128)
    factor = QuantParams(scale=(0.5,), signed=False, zero_point=-127)
    assert (factor.qmin, factor.qmax, factor.levels, factor.bound) == (-127, 127, 254, 127)
    few = QuantParams(scale=(0.5,), bits=4, signed=False, zero_point=-8)
    assert (few.qmin, few.qmax, few.levels, few.bound) == (-8, 7, 15, 8)
    planes = QuantParams(scale=(0.5,), signed=False, limit=119, zero_point=-128)
    assert (planes.qmin, planes.qmax, planes.levels, planes.bound) == (-128, 119, 247, 128)
    assert (limited.levels, limited.bound) == (119, 119)
    for bad in ({"zero_point": -8, "signed": False}, {"zero_point": 1, "signed": False}):
        must = r"QuantParams\.zero_point: must be 0 or -128 or -127, got"
        with pytest.raises(CapacityError, match=must):
            QuantParams(scale=(1.0,), **bad)
    with pytest.raises(CapacityError, match=r"QuantParams\.zero_point: must be 0, got -128"):
        QuantParams(scale=(1.0,), zero_point=-128)
    for limit in (0, 128):
        with pytest.raises(CapacityError, match=rf"QuantParams\.limit: .* \[1, 127\], got {limit}"):
            QuantParams(scale=(1.0,), limit=limit)
    with pytest.raises(CapacityError, match=r"QuantParams\.bits: must be in \[2, 8\], got 9"):
        QuantParams(scale=(1.0,), bits=9)
    with pytest.raises(CapacityError, match=r"QuantParams\.scale: must be positive and finite"):
        QuantParams(scale=(0.0,))
    with pytest.raises(
        CapacityError, match=r"QuantParams\.scale: must be one number per tensor, go"
    ):
        QuantParams(scale=(1.0, 2.0))


def test_requant() -> None:
    exact = Requant(multiplier=(1,), shift=(3,), ratio=(Fraction(1, 8),))
    assert exact.relative_error == 0.0
    near = Requant(multiplier=(1, 3), shift=(1, 3), ratio=(Fraction(1, 2), Fraction(1, 3)))
    assert near.relative_error == pytest.approx(0.125)
    assert Requant(multiplier=(1,), shift=(-2,), ratio=(Fraction(4),)).relative_error == 0.0
    with pytest.raises(CapacityError, match="Requant: must have as many multipliers as shifts and"):
        Requant(multiplier=(1,), shift=(), ratio=())
    with pytest.raises(CapacityError, match=r"Requant\.shift: must be in \[-31, 31\], got \(32,\)"):
        Requant(multiplier=(1,), shift=(32,), ratio=(Fraction(1),))
    with pytest.raises(CapacityError, match=r"Requant\.multiplier: must be a positive int32, got"):
        Requant(multiplier=(0,), shift=(1,), ratio=(Fraction(1),))


def test_scales_for_people() -> None:
    texts = [scale_text(s) for s in (2.0**-9, 0.5, 1.0, 4.0, 0.3, 0.0665427, 2.0**-9 * 1.0000001)]
    assert texts == ["2^-9", "2^-1", "2^0", "2^2", "0.3", "0.06654", "0.001953"]
