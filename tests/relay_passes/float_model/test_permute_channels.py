"""Ordered channels: equal results, like weights in one block."""

from __future__ import annotations

import numpy as np

from relay_passes.float_model.channels import layer_weights
from relay_passes.float_model.permute_channels import PermuteChannels
from relay_passes.host.run import HostModule
from relay_passes.quantize_model import prepare
from tests.relay_passes.models import images, residual_net


def spread(weights: np.ndarray, block: int) -> float:
    power = np.square(np.abs(weights).reshape(len(weights), -1).max(axis=1))
    return float(power.reshape(-1, block).max(axis=1).sum() / power.sum())


def test_results_stay_and_blocks_are_alike() -> None:
    mod = prepare(residual_net())
    ordered = PermuteChannels(block=4)(mod)
    for x in images(2):
        np.testing.assert_allclose(
            HostModule(mod, fast=True)(x)[0], HostModule(ordered, fast=True)(x)[0], atol=1e-3
        )
    before, after = layer_weights(mod), layer_weights(ordered)
    for name in ("conv1.acc", "conv4.acc"):  # one writer: sorted
        peaks = np.abs(after[name]).reshape(len(after[name]), -1).max(axis=1)
        assert (np.diff(peaks) <= 0).all()
    stream = ("conv2.acc", "conv3.acc", "conv5.acc")
    assert sum(spread(after[n], 4) for n in stream) < sum(spread(before[n], 4) for n in stream)
    np.testing.assert_array_equal(
        np.sort(before["conv1.acc"], None), np.sort(after["conv1.acc"], None)
    )


def test_small_groups_keep_their_order() -> None:
    mod = prepare(residual_net())
    before, after = layer_weights(mod), layer_weights(PermuteChannels(block=16)(mod))
    assert all(np.array_equal(before[n], after[n]) for n in before)
