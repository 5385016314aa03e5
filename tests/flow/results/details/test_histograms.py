"""Histograms keep every count, and reach from the least to the largest integer."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from flow.results.details.histograms import BINS, activation, histograms, weights
from relay_passes.calibration.profiling import record
from relay_passes.integers.plan import LayerPlan, QuantPlan
from relay_passes.params import QuantParams, Requant, TensorProfile
from relay_passes.partition.read import FoundLayers


def profile(values: np.ndarray) -> TensorProfile:
    lo, hi, limit, *counts = record(values)
    return TensorProfile(
        name="t", lo=lo, hi=hi, limit=limit, samples=1,
        histogram=np.asarray(counts, np.int64), sample_hi=np.float32([max(-lo, hi)]),
    )  # fmt: skip


@pytest.mark.parametrize("scale", [0.001, 0.02, 0.25, 3.0])
@pytest.mark.parametrize("signed", [True, False])
def test_activations(scale: float, signed: bool) -> None:
    values = np.random.default_rng(1).normal(0, 1, 5000).astype(np.float32)
    values = values if signed else np.abs(values)
    params = QuantParams(scale=(scale,), signed=signed, zero_point=0 if signed else -128)
    found = activation(profile(values), params)
    assert sum(found.counts) == 5000 and 1 <= len(found.counts) <= BINS
    ends = [scale * (q - params.zero_point) for q in (params.qmin, params.qmax)]
    assert found.low <= min(values.min(), ends[0]) and found.high >= max(values.max(), ends[1])
    # The bins are where the values are: a fourth lies below the first quartile.
    edges = np.linspace(found.low, found.high, len(found.counts) + 1)
    expected, _ = np.histogram(values, edges)
    assert np.abs(np.asarray(found.counts) - expected).sum() <= 60  # at edges of fine bins
    assert (found.qmin, found.qmax, found.zero_point) == (
        params.qmin, params.qmax, params.zero_point
    )  # fmt: skip


def test_a_tensor_of_one_value() -> None:
    found = activation(profile(np.zeros(7, np.float32)), QuantParams(scale=(1.0,)))
    assert sum(found.counts) == 7


def test_weights_of_few_bits_have_a_bin_each() -> None:
    values = np.array([[-7, 0, 0, 7], [1, 1, 1, -2]], np.int8)
    found = weights("w", values, QuantParams(scale=(0.5, 0.25), bits=4, granularity="block"))
    assert (found.low, found.high, len(found.counts)) == (-7.5, 7.5, 15)
    assert found.counts[7] == 2 and found.counts[8] == 3 and found.counts[0] == 1
    assert found.scale == (0.25, 0.5)


def test_weights_of_eight_bits_share_bins() -> None:
    values = np.arange(-127, 128).astype(np.int8)
    found = weights("w", values, QuantParams(scale=(0.5,)))
    assert sum(found.counts) == 255 and len(found.counts) <= BINS
    width = (found.high - found.low) / len(found.counts)
    assert found.low == -127.5 and set(found.counts[:-1]) == {width}


def test_only_tensors_that_are_int8_somewhere() -> None:
    one = QuantParams(scale=(0.5,))
    layer = LayerPlan(
        name="conv", inputs=("x",), operators=("conv.acc",), output="y",
        requant=Requant(multiplier=(1,), shift=(1,), ratio=(Fraction(1, 2),)),
    )  # fmt: skip
    plan = QuantPlan(tensors=dict.fromkeys(("x", "fused", "y"), one), weights={}, layers=(layer,))
    profiles = {n: profile(np.ones(3, np.float32)) for n in ("x", "fused")}
    found = histograms(plan, profiles, FoundLayers(chains=(), refused=()))
    assert len(found.activations) == 1 and found.weights == ()
