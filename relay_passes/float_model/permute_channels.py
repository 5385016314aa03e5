"""Order channels so that those of like weights share a block: free, and the results stay equal.

One shift serves a block of output channels, so a block's weight scale follows its largest channel
and the others lose resolution. Output channels may be put in any order if the layers that read
them follow; a residual stream has one order for all layers that write it, and so have a depthwise
convolution and the layer before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from relay_passes.float_model.channels import (
    ChannelGroup,
    ChannelMap,
    channel_groups,
    layer_weights,
    map_channels,
)
from relay_passes.graph import GraphPass, Module


@dataclass(frozen=True, slots=True, kw_only=True)
class PermuteChannels(GraphPass):
    """Sort each group's channels by their weights' peaks, then swap pairs while that pays.

    The cost of an order is the sum over writing layers of sum_blocks max(p²) / sum_channels p²,
    with p a channel's max|w|: the weights' rounding noise against that of a scale per channel.

    Parameters
    ----------
    block : int
        Channels that share a scale.
    swaps : int
        Random pairs tried for each channel of a group with several writers.
    seed : int
        Of the pairs.
    """

    block: int = 16
    swaps: int = 100
    seed: int = 0

    def for_block(self, block: int) -> PermuteChannels:
        """Return the pass for blocks of `block` channels."""
        return replace(self, block=block)

    def transform(self, mod: Module) -> Module:
        """Return `mod` with its channels in the better order."""
        return map_channels(mod, *self.maps(mod))

    def maps(self, mod: Module) -> tuple[tuple[ChannelGroup, ...], tuple[ChannelMap, ...]]:
        """Return the groups of channels and the order that each gets."""
        weights = layer_weights(mod)
        groups = tuple(
            group
            for group in channel_groups(mod, "ordered")
            if group.writers and group.channels > self.block
        )
        maps = []
        for group in groups:
            order = self.order(group, weights)
            maps.append(ChannelMap(order=order, factor=np.ones(group.channels)))
        return groups, tuple(maps)

    def order(
        self, group: ChannelGroup, weights: dict[str, NDArray[np.float64]]
    ) -> NDArray[np.int64]:
        """Return the order of a group's channels, int64[C]."""
        rows = [np.abs(weights[w]).reshape(group.channels, -1) for w in group.writers]
        power = np.square(np.stack([row.max(axis=1) for row in rows]))
        power = power / np.maximum(power.sum(axis=1, keepdims=True), 1e-300) + 1e-12
        order = np.argsort(-np.log(power).sum(axis=0), kind="stable")
        if len(group.writers) == 1:
            return np.asarray(order, np.int64)
        rng = np.random.default_rng(self.seed)
        starts = np.arange(0, group.channels, self.block)
        power = power[:, order]
        peaks = np.maximum.reduceat(power, starts, axis=1)
        pairs = rng.integers(0, group.channels, (self.swaps * group.channels, 2))
        blocks = np.empty((len(power), 2))
        for i, j in pairs.tolist():
            a, b = i // self.block, j // self.block
            if a == b:
                continue
            both = [i, j]
            power[:, both] = power[:, both[::-1]]
            for column, k in enumerate((a, b)):
                own = power[:, k * self.block : (k + 1) * self.block]
                np.maximum.reduce(own, axis=1, out=blocks[:, column])
            if blocks.sum() < peaks[:, [a, b]].sum():
                peaks[:, [a, b]] = blocks
                order[both] = order[both[::-1]]
            else:
                power[:, both] = power[:, both[::-1]]
        return np.asarray(order, np.int64)
