"""Run an exported model on ONNX Runtime and compare it with what it was exported from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow.results.evaluate import OnnxRuntime

#: Differences up to here, as a share of the largest logit, are rounding of float32.
ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCheck:
    """The comparison of an exported model.

    Parameters
    ----------
    images : int
        Images compared.
    equal : int
        Those with the same bits in all results.
    largest : float
        The largest difference.
    reach : float
        The largest result, in magnitude.
    """

    images: int
    equal: int
    largest: float
    reach: float

    @property
    def agrees(self) -> bool:
        """Whether no result differs by more than rounding of float32."""
        return self.largest <= ROUNDING * self.reach

    def __str__(self) -> str:
        """Tell it in a line."""
        told = f"{self.equal:,} of {self.images:,} images have equal results on ONNX Runtime"
        if self.equal == self.images:
            return told
        return f"{told}; largest difference {self.largest:.3g}, results up to {self.reach:.3g}"


def check_export(
    proto: Any,
    network: Callable[[NDArray[np.float32]], NDArray[Any]],
    images: Iterable[NDArray[np.float32]],
) -> ExportCheck:
    """Compare an exported model on ONNX Runtime with a network.

    Parameters
    ----------
    proto : onnx.ModelProto
    network : callable
        float32[1, C, H, W] -> logits.
    images : iterable of float32[1, C, H, W]
    """
    runtime = OnnxRuntime(proto)
    count, equal, largest, reach = 0, 0, 0.0, 0.0
    for image in images:
        ours, theirs = (np.asarray(run(image), np.float32).ravel() for run in (network, runtime))
        count += 1
        equal += int(np.array_equal(ours, theirs))
        largest = max(largest, float(np.abs(ours - theirs).max(initial=0.0)))
        reach = max(reach, float(np.abs(ours).max(initial=0.0)))
    return ExportCheck(images=count, equal=equal, largest=largest, reach=reach)
