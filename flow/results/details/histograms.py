"""Histograms of activations and weights, and the integers that stand for their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, floor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow.results.details.types import Histogram, Histograms
from relay_passes.graph import constant
from relay_passes.integers.plan import QuantPlan
from relay_passes.params import QuantParams, TensorProfile
from relay_passes.partition.read import FoundLayers

#: The most bins that a histogram of a report has.
BINS: Final = 64


def histograms(
    plan: QuantPlan, profiles: Mapping[str, TensorProfile], found: FoundLayers
) -> Histograms:
    """Return the histograms of all tensors that are int8 somewhere, and of all weights.

    Parameters
    ----------
    plan : QuantPlan
    profiles : mapping of str to TensorProfile
        Of the float tensors on calibration images.
    found : FoundLayers
        Has the weights.
    """
    used = {name for layer in plan.layers for name in (*layer.inputs, layer.output) if name}
    return Histograms(
        activations=tuple(
            activation(profiles[name], params)
            for name, params in plan.tensors.items()
            if name in used and name in profiles
        ),
        weights=tuple(_weights(plan, found)),
    )


def activation(profile: TensorProfile, params: QuantParams) -> Histogram:
    """Return the values of a tensor, from the least to the largest that it has or its integers are.

    The bins of the profile are joined, so that no count is split.
    """
    scale = params.scale[0]
    ends = (scale * (q - params.zero_point) for q in (params.qmin, params.qmax))
    count, limit = len(profile.histogram), profile.limit
    width = 2 * limit / count
    low, high = min(profile.lo, *(each := tuple(ends))), max(profile.hi, *each)
    first, last = floor((low + limit) / width), ceil((high + limit) / width)
    joined = max(1, ceil((last - first) / BINS))
    bins = max(1, ceil((last - first) / joined))
    counts = np.zeros(bins, np.int64)
    places = (np.arange(count) - first) // joined
    inside = (places >= 0) & (places < bins)
    np.add.at(counts, places[inside], profile.histogram[inside])
    return _histogram(
        profile.name, first * width - limit, (first + bins * joined) * width - limit, counts, params
    )


def _weights(plan: QuantPlan, found: FoundLayers) -> Iterable[Histogram]:
    for chain in found.chains:
        for part in (chain, *chain.summands):
            name = str(part.anchor.var.name)
            params = plan.weights.get(name)
            if params is None:
                continue
            values = next(
                (v for a in part.anchor.value.args if (v := constant(a)) is not None), None
            )
            if values is not None and values.dtype == np.int8:
                yield weights(part.name or name, values, params)


def weights(name: str, values: NDArray[np.int8], params: QuantParams) -> Histogram:
    """Return how often each integer of a weight occurs, neighbours joined where there are many."""
    low, high = -params.bound, params.bound
    joined = max(1, ceil((high - low + 1) / BINS))
    bins = ceil((high - low + 1) / joined)
    whole = np.bincount(values.ravel().view(np.uint8), minlength=256)
    codes = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64)
    places = np.clip((codes - low) // joined, 0, bins - 1)
    counts = np.zeros(bins, np.int64)
    np.add.at(counts, places, whole)
    return _histogram(name, low - 0.5, low - 0.5 + bins * joined, counts, params)


def _histogram(
    name: str, low: float, high: float, counts: NDArray[np.int64], params: QuantParams
) -> Histogram:
    return Histogram(
        name=name,
        low=float(low),
        high=float(high),
        counts=tuple(int(n) for n in counts),
        bits=params.bits,
        scale=tuple(sorted({min(params.scale), max(params.scale)})),
        zero_point=params.zero_point,
        qmin=params.qmin,
        qmax=params.qmax,
    )
