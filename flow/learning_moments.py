"""The moments of what layers read of calibration images, measured once for the variants that learn.

Where a variant that learns is to come, they are measured in calibration's own pass over the images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flow.candidates import is_small
from flow.system.host_memory import give_back
from relay_passes.calibration.moments import MomentSums, WindowReader, collect_moments
from relay_passes.selection.prove_layers import usual_places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from relay_passes.calibration.moments import LayerMoments

#: Passes before, by which moments are told apart.
Passes = tuple[Any, ...]


class LearningMoments:
    """The moments of a model on its calibration images.

    Those of a ResNet-18 take 230 MB, of which one layer's are needed at a time: they lie in a file.

    Parameters
    ----------
    folded : IRModule
        The float module, folded and named.
    images : sequence of float32[1, C, H, W]
        Images to learn from; may grow.
    """

    def __init__(self, folded: Any, images: Sequence[NDArray[np.float32]]) -> None:
        """Start without moments."""
        self._folded, self._images = folded, images
        self._kept: tuple[Passes, LayerMoments] | None = None  # of the variants quantized last
        self._reader: tuple[Any, WindowReader] | None = None  # module, and what reads its windows
        self._sums: MomentSums | None = None

    def start(self) -> set[str]:
        """Prepare for `add`; return the names of the tensors that it needs.

        None are where there are no images yet, or memory does not hold the sums of all layers.
        """
        reader = WindowReader(self._folded)
        if not self._images or not reader.fits:
            return set()
        self._sums = MomentSums(reader, reader.sizes, places=usual_places(len(self._images)))
        return reader.inputs(reader.sizes)

    def add(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Add the next image, of which the folded module's tensors are given, by name."""
        if self._sums is not None and self._sums.count < len(self._images):
            self._sums.add(tensors)

    def finish(self) -> None:
        """Keep the moments of the images that were added, if any."""
        if self._sums is not None and self._sums.count:
            self._kept = (), self._sums.moments(tempfile.TemporaryFile())
        self._sums = None

    def of(self, mod: Any, passes: Passes) -> LayerMoments:
        """Return the moments on all images, of the module after passes."""
        if self._kept is None or self._kept[0] != passes:
            self._kept = None  # not beside the new ones
            give_back()
            self._kept = passes, self.on(mod, range(len(self._images)))
            give_back()
        return self._kept[1]

    def on(self, mod: Any, indices: Sequence[int]) -> LayerMoments:
        """Return the moments on some of the images, of a module."""
        images = self._images
        return collect_moments(
            mod,
            images if len(indices) == len(images) else [images[i] for i in indices],
            places=usual_places(len(images)),
            file=tempfile.TemporaryFile(),
            reader=self._reader_of(mod),
        )

    def _reader_of(self, mod: Any) -> WindowReader | None:
        """Return what reads the windows of a small network's layers, compiled once for all trials.

        None for others, of which only one set of moments is measured.
        """
        if not is_small(self._folded):
            return None
        if self._reader is None or self._reader[0] is not mod:
            self._reader = mod, WindowReader(mod)
        return self._reader[1]
