"""Equalize layers: scale channels so that the weights on both sides of them have like ranges.

One scale serves a layer's whole weight tensor (or a block of it), so that channels of small weights
lose resolution. Through a ReLU channels may be scaled by any positive factor f if the layers that
read them divide by it: relu(f x) = f relu(x). With r and r' the largest weights of a channel in the
layer that writes and in the one that reads it, as shares of their layers' largest,

    f = sqrt(r' / r)

makes both sqrt(r r') (cross-layer equalization, Nagel et al., arXiv 1906.04721). A residual stream
has one factor per channel for all the layers that write or read it; its r is the largest of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

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
from relay_passes.requirements import IMAGES, Need

#: Smallest share of a layer's largest weight that a channel is taken to have: bounds the factors.
_LEAST_SHARE: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualizeLayers(GraphPass):
    """Scale the channels of each group that allows it (`ChannelGroup.scalable`).

    The results stay equal; values inside do not, so that tensors must be profiled afterwards.

    Parameters
    ----------
    rounds : int
        Times that all groups are gone through: a layer belongs to two of them.
    """

    needs: ClassVar[frozenset[Need]] = IMAGES

    rounds: int = 8

    def transform(self, mod: Module) -> Module:
        """Return `mod` with its channels scaled."""
        groups = [
            group
            for group in channel_groups(mod, "scaled")
            if group.scalable and group.writers and group.readers
        ]
        peaks = {  # largest weights between channels, float64[O, I]
            name: np.abs(w).reshape(*w.shape[:2], -1).max(axis=2)
            for name, w in layer_weights(mod).items()
        }
        depthwise = {  # channel c of what is read goes to channel c alone
            name for group in groups for name in group.readers if _is_diagonal(peaks[name], group)
        }
        factors = [np.ones(g.channels) for g in groups]
        for _ in range(self.rounds):
            for group, factor in zip(groups, factors, strict=True):
                written = [peaks[name].max(axis=1) for name in group.writers]
                read = [
                    peaks[name][:, 0] if name in depthwise else peaks[name].max(axis=0)
                    for name in group.readers
                ]
                change = np.sqrt(_share(read) / _share(written))
                change /= np.exp(np.log(change).mean())
                for name in group.writers:
                    peaks[name] *= change[:, np.newaxis]
                for name in group.readers:
                    peaks[name] /= change[:, np.newaxis] if name in depthwise else change
                factor *= change
        maps = tuple(ChannelMap(order=np.arange(len(f)), factor=f) for f in factors)
        return map_channels(mod, tuple(groups), maps)


def _is_diagonal(peaks: NDArray[np.float64], group: ChannelGroup) -> bool:
    """Whether a layer that reads a group is depthwise: one weight row, of one channel, for each."""
    return peaks.shape == (group.channels, 1) and group.channels > 1


def _share(layers: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return each channel's largest weight as a share of its layer's, the largest of all layers."""
    shares = [peaks / max(float(peaks.max()), 1e-300) for peaks in layers]
    return np.asarray(np.maximum(np.max(shares, axis=0), _LEAST_SHARE))
