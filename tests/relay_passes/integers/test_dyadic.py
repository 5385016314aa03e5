"""Multipliers b / 2^c: exact on the host, the oracle of layers and the error that is reported."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from relay_passes import numerics
from relay_passes.calibration.moments import collect_moments
from relay_passes.calibration.profiling import profile
from relay_passes.integers.integer_facts import requantization_errors
from relay_passes.partition.fallbacks import fallbacks
from relay_passes.quantize_model import prepare, quantize_model
from relay_passes.variants import STEPS, VARIANTS
from tests.relay_passes.models import images, residual_net
from tests.relay_passes.partition.integers import check_meaning
from vta_config.hardware import VTAConfig


@pytest.mark.parametrize("bound", [1, 100, 1 << 20, 1 << 28])
def test_multiplier_and_shift(bound: int) -> None:
    ratio = np.asarray([0.7, 0.01, 3e-4])
    requant = numerics.dyadic(ratio, bound)
    assert all(1 <= b < 1 << 15 and b * bound < 1 << 31 for b in requant.multiplier)
    assert requant.relative_error <= 1 / min((1 << 15) - 1, ((1 << 31) - 1) // bound)


def test_integers_that_are_integers() -> None:
    np.testing.assert_array_equal(numerics.exact_integers(np.asarray([3.0, 7.0])), [3, 7])
    assert numerics.exact_integers(np.asarray([3.0, 7.1])) is None
    assert numerics.exact_integers(np.asarray([0.0])) is None


@pytest.mark.parametrize("name", ["dyadic", "dyadic_any"])
def test_dyadic_network(name: str, default_config: VTAConfig) -> None:
    mod = prepare(residual_net())
    data = images(2)
    options = (VARIANTS | STEPS)[name].options
    measure = partial(collect_moments, images=data)
    integers = quantize_model(mod, profile(mod, data), options, measure=measure)
    errors = requantization_errors(integers)
    assert len(errors) == 7
    # The average pool's ratio is what it is.
    others = [error for tensor, error in errors.items() if not tensor.startswith("avgpool")]
    assert max(errors.values()) < 2e-3
    assert max(others) < 1e-12 if name == "dyadic" else max(others) > 1e-6
    multiplies = replace(default_config, capabilities=frozenset({"mul"}))
    for machine in (default_config, multiplies):
        assert not fallbacks(integers, machine)
        layers = check_meaning(integers, machine)
        factors = [step.value for layer in layers for step in layer.post_ops if step.op == "mul"]
        if name == "dyadic_any":
            assert len(factors) == 7
        else:
            assert set(np.concatenate([np.ravel(f) for f in factors[:-1]]).tolist()) <= {1, 3, 5}


def test_shifts_are_exact() -> None:
    mod = prepare(residual_net())
    data = images(2)
    measure = partial(collect_moments, images=data)
    for name in ("profiled_fused", "best"):
        integers = quantize_model(mod, profile(mod, data), VARIANTS[name].options, measure=measure)
        errors = requantization_errors(integers)
        assert errors and max(errors.values()) == 0
    assert requantization_errors(mod) == {}
