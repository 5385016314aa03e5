"""What a chooser of scales is and returns, and the largest weights that scales follow from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Module
from relay_passes.params import Granularity, QuantParams, TensorProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """The quantization parameters of a model.

    Parameters
    ----------
    tensors : dict[str, QuantParams]
        Activations by tensor name, the input included. One without stays an accumulator.
    weights : dict[str, QuantParams]
        Weights by the name of the convolution or dense tensor that uses them.
    """

    tensors: Mapping[str, QuantParams]
    weights: Mapping[str, QuantParams]


class ScaleChooser(Protocol):
    """Anything that chooses a model's scales."""

    def __call__(self, mod: Module, profiles: Mapping[str, TensorProfile]) -> Scales:
        """Return the scales of the float module `mod`."""
        ...


def largest_weights(
    weight: NDArray[Any], axis: int, granularity: Granularity, block: int
) -> NDArray[np.float64]:
    """Return max|w| of the tensor, of each block or of each channel.

    Parameters
    ----------
    weight : floating[...]
    axis : int
        Of the output channels.
    granularity : {"tensor", "block", "channel"}
    block : int
        Output channels of a block.

    Returns
    -------
    float64[1], float64[blocks] or float64[channels]
    """
    channels = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1)
    peaks = channels.max(axis=1, initial=0.0).astype(np.float64)
    if granularity == "tensor":
        return np.asarray([peaks.max(initial=0.0)])
    if granularity == "block":
        starts = np.arange(0, len(peaks), block)
        return np.asarray(np.maximum.reduceat(peaks, starts), np.float64)
    return np.asarray(peaks)
