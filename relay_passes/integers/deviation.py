"""How far a quantized model's own numbers had to move to be what a machine can do."""

from __future__ import annotations

from collections.abc import Iterable
from math import log2
from typing import Final

import numpy as np

from relay_passes.graph import Module
from relay_passes.integers.plan import QuantPlan
from relay_passes.scales.kept import Deviation, KeptModel
from relay_passes.scales.scales import weights_of

#: Scales that are nearer than this are the same: the file has them in float32.
_SAME: Final = 2.0**-17


def deviation(mod: Module, kept: KeptModel, plan: QuantPlan) -> Deviation:
    """Compare a plan with the numbers that it was made from.

    Parameters
    ----------
    mod : IRModule
        The float module that was quantized.
    kept : KeptModel
        By its names.
    plan : QuantPlan
    """
    integers_of = {name for layer in plan.layers for name in (*layer.inputs, layer.output)}
    tensors = [
        (name, plan.tensors[name].scale[0] / own.scale)
        for name, own in kept.tensors.items()
        if name in plan.tensors and name in integers_of  # no accumulator
    ]
    channels: list[tuple[str, float]] = []
    for name, rows, _ in weights_of(mod):
        if name not in kept.weights or name not in plan.weights:
            continue
        integers = np.asarray(kept.weights[name].peaks, np.float64)
        peaks = np.abs(rows).max(axis=1, initial=0.0).astype(np.float64)
        ours = plan.weights[name].scales(len(rows), plan.block)
        live = (peaks > 0) & (integers > 0)
        factors = ours[live] * integers[live] / peaks[live]
        channels += [(name, float(factor)) for factor in factors]
    tensor, weight = _furthest(tensors), _furthest(channels)
    return Deviation(
        tensors=len(tensors),
        same_tensors=_same(tensors),
        tensor=tensor[0],
        tensor_factor=tensor[1],
        channels=len(channels),
        same_channels=_same(channels),
        weight=weight[0],
        weight_factor=weight[1],
    )


def _distance(found: tuple[str, float]) -> float:
    return abs(log2(found[1]))


def _furthest(found: list[tuple[str, float]]) -> tuple[str, float]:
    return max(found, key=_distance, default=("", 1.0))


def _same(found: Iterable[tuple[str, float]]) -> int:
    return sum(_distance(one) <= _SAME for one in found)
